"""Running a recipe: the stages that are not up to date, in order."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from compress import processes
from compress.console import console
from compress.pipeline.check import check
from compress.pipeline.plan import make_plan
from compress.pipeline.stage import Latency, Stage, StageContext, TaskTexts
from compress.pipeline.stages import LINEAR, STUDENT, stage_keys, stages_of
from compress.pipeline.workspace import Workspace
from compress.recipe import Recipe
from compress.recipe.keys import restricted

if TYPE_CHECKING:
    from compress.teachers.judge import Int8Teacher


def compress(
    recipe: Recipe,
    workspace: Workspace,
    *,
    force: bool = False,
    until: str = STUDENT.name,
    latency: Latency | None = None,
    int8: Int8Teacher | None = None,
    plan: bool = False,
) -> Path:
    """Run the stages that are not up to date; returns the directory of the last one.

    :param force: make every stage anew.
    :param until: the last stage to run.
    :param latency: how a student is timed where it will run, needed for `budget.target_latency_ms`.
    :param int8: how the teacher is made an INT8 graph, so that it judges a transfer set sooner on a CPU.
    :param plan: print the stages that will be made with a forecast of their times, and afterwards what they took.
    :raises UserError: student, objective and teacher do not fit together; raised before anything is trained.
    """
    keys, task = stage_keys(recipe), TaskTexts(recipe)
    if until == STUDENT.name and (force or not workspace.is_current(until, keys[until])):
        check(recipe, task.corpus)
    planned = make_plan(recipe, workspace, task, force=force) if plan and processes.size() == 1 else None
    if planned is not None:
        _print(planned.lines())
    for stage in stages_of(recipe):
        run_stage(stage, recipe, workspace, keys[stage.name], task, force=force, latency=latency, int8=int8)
        if stage is LINEAR:
            warn_if_below_linear(workspace.root)
        if stage.name == until:
            break
    if planned is not None:
        _print(planned.comparison(workspace))
    return workspace.root / until


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        console.print(line)


def warn_if_below_linear(artifacts: Path) -> None:
    """Say so if the teacher is not better than the linear model: then no student of it is worth its training.

    :param artifacts: holds the results of the stages `teacher` and `linear`.
    """
    teacher = json.loads((artifacts / "teacher" / "card.json").read_text(encoding="utf-8"))["accuracy"]["dev"]
    linear = json.loads((artifacts / "linear" / "linear.json").read_text(encoding="utf-8"))["accuracy"]["dev"]
    if teacher < linear:
        console.print(
            f"  [bold yellow]the teacher has {teacher:.2%} on dev, a linear model on n-grams {linear:.2%}[/]: train it longer "
            "(teacher.steps), at another rate (teacher.learning_rate), or give another model (teacher.model)"
        )


def run_stage(
    stage: Stage,
    recipe: Recipe,
    workspace: Workspace,
    key: str,
    task: TaskTexts,
    *,
    force: bool = False,
    latency: Latency | None = None,
    int8: Int8Teacher | None = None,
) -> Path:
    """Make a stage's result unless it is up to date; returns its directory."""

    def make(directory: Path, scratch: Path) -> None:
        present = {earlier.name for earlier in stages_of(recipe)}
        context = StageContext(
            stage=stage,
            recipe=restricted(recipe, stage.declared(recipe)),
            task=task,
            results={name: workspace.root / name for name in stage.after if name in present},
            directory=directory,
            scratch=scratch,
            latency=latency,
            int8=int8,
            name=recipe.name,
            recipe_as_written=recipe.dump(),
        )
        stage.make(context)

    run = workspace.run_shared if stage.shared else workspace.run
    return run(stage.name, key, make, force=force)
