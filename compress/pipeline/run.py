"""Running a recipe: the stages that are not up to date, in order."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from compress import processes
from compress.busy import use_free_cpus
from compress.console import console
from compress.data.corpus import Corpus
from compress.pipeline.check import check
from compress.pipeline.plan import make_plan
from compress.pipeline.stage import Latency, Stage, StageContext, TaskTexts
from compress.pipeline.stages import AUGMENTED, LINEAR, STUDENT, TEACHER, TRANSFER_SET, stage_keys, stages_of
from compress.pipeline.workspace import Workspace
from compress.recipe import Recipe
from compress.recipe.keys import restricted
from compress.runtime.errors import UserError

if TYPE_CHECKING:
    from compress.pipeline.preflight import TrialExport
    from compress.teachers.judge import Int8Teacher

CHECKED = (STUDENT.name, AUGMENTED.name)  # stages that a user asks for; what comes before them is checked with them


def compress(
    recipe: Recipe,
    workspace: Workspace,
    *,
    force: bool = False,
    until: str = STUDENT.name,
    latency: Latency | None = None,
    int8: Int8Teacher | None = None,
    trial_export: TrialExport | None = None,
    plan: bool = False,
    checked: bool = False,
) -> Path:
    """Run the stages that are not up to date; returns the directory of the last one.

    :param force: make every stage anew.
    :param until: the last stage to run.
    :param latency: how a student is timed where it will run, needed for `budget.target_latency_ms`.
    :param int8: how the teacher is made an INT8 graph, so that it judges a transfer set sooner on a CPU.
    :param trial_export: how an untrained student is exported, so that trouble with it is met before the training.
    :param plan: print the stages that will be made with a forecast of their times, and afterwards what they took.
    :param checked: whether the recipe was checked already.
    :raises UserError: the recipe's models do not fit the texts or each other; raised before anything is trained.
    """
    keys, task = stage_keys(recipe), TaskTexts(recipe)
    if not checked and until in CHECKED and (force or not workspace.is_current_for_all(until, keys[until])):
        check(recipe, task.corpus)
        teacher_is_made = not force and workspace.is_current_for_all(TEACHER.name, keys[TEACHER.name])
        preflight_in_seconds(recipe, task.corpus, workspace.root, trial_export, teacher_is_made=teacher_is_made)
    planned = make_plan(recipe, workspace, task, force=force) if plan and processes.size() == 1 else None
    if planned is not None:
        _print(planned.lines())
    stages = stages_of(recipe)
    stages = stages[: 1 + next((i for i, stage in enumerate(stages) if stage.name == until), len(stages))]
    if until != TRANSFER_SET.name and not any(TRANSFER_SET.name in stage.after for stage in stages):
        stages = [stage for stage in stages if stage is not TRANSFER_SET]  # it comes first, and nothing here reads it
    for stage in stages:
        run_stage(stage, recipe, workspace, keys[stage.name], task, force=force, latency=latency, int8=int8)
        if stage is LINEAR:
            warn_if_below_linear(workspace.root, recipe.domains.student)
    if planned is not None:
        _print(planned.comparison(workspace))
    return workspace.root / until


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        console.print(line)


def preflight_in_seconds(
    recipe: Recipe,
    corpus: Corpus,
    place: Path,
    trial_export: TrialExport | None = None,
    *,
    teacher_is_made: bool = False,
) -> None:
    """Run the preflight and say how long it took.

    :param place: where the results will be written.
    :raises UserError: what `preflight` raises, or there is too little room on the disk.
    """
    started = time.monotonic()
    from compress.pipeline.preflight import preflight

    needed = preflight(recipe, corpus, trial_export).bytes_to_train(teacher_is_made=teacher_is_made)
    place.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(place).free) < needed:
        raise UserError(
            f"{place}: {free / 1e6:,.1f} MB are free on this disk, and the trainings write {needed / 1e6:,.1f} MB at least; make room, or "
            "give another directory with --artifacts"
        )
    console.print(f"[green]✓[/] preflight: teacher, student and export fit ({time.monotonic() - started:.0f} s)")


def warn_if_below_linear(artifacts: Path, domain: str | None) -> None:
    """Say so if the teacher is not better than the linear model: then no student of it is worth its training.

    :param artifacts: holds the results of the stages `teacher` and `linear`.
    :param domain: of the student; None: it is for all texts.
    """
    card = json.loads((artifacts / "teacher" / "card.json").read_text(encoding="utf-8"))
    teacher = card["accuracy"]["dev"] if domain is None else card["domain_accuracy"]["dev"][domain]
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
        if stage.alone(recipe) and not processes.is_first():
            return
        use_free_cpus()
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
