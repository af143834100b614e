"""One run of a table: compress, export, and what came out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from bench.engines import count_weights
from bench.paper.table import Run, Table
from compress.pipeline import compress, stage_keys, stages_of
from compress.recipe import Recipe
from compress.stages import Workspace, fingerprint
from export.bundle import ModelEntry

OWN_STAGES = ("augmented", "search", "student")  # whose seconds are the student's; the teacher's two are not


@dataclass(frozen=True)
class Outcome:
    """What a run gives. Values are fractions of 1 by metric."""

    values: dict[str, float]
    split: str
    seconds: float
    parameters: int


def workspace_of(table: Table, run: Run, artifacts: Path) -> Workspace:
    """Where a run's artifacts are. What runs share (the teacher, its outputs) is kept in one store for all tables."""
    root = artifacts / "paper"
    return Workspace(root / table.name / f"{run.data}-{run.seed}" / run.method, store=root / "store")


def run_key(table: Table, run: Run, recipe: Recipe) -> str:
    """Identity of all that the run's values depend on: data, recipe, pipeline. Imports no torch."""
    if table.method[run.method].stop:
        return fingerprint(stage_keys(recipe)["teacher"])[:16]
    return fingerprint(stage_keys(recipe)["student"], recipe.export.model_dump(mode="json"))[:16]


def train(table: Table, run: Run, recipe: Recipe, artifacts: Path, *, force: bool = False) -> Outcome:
    """Make what is not up to date in the run's workspace, and read off the figures.

    :param force: make the student and its bundle anew, from the stored teacher; in a teacher's row, the teacher.
    :raises UserError: the recipe's data or models cannot be used, or another process is at work on the same run.
    """
    workspace = workspace_of(table, run, artifacts)
    with workspace.locked():
        if table.method[run.method].stop:
            return _train_teacher(recipe, workspace, force)
        return _train_student(recipe, workspace, force)


def _train_teacher(recipe: Recipe, workspace: Workspace, force: bool) -> Outcome:
    directory = workspace.root / "teacher"
    if force:
        # Nothing in the store is made anew, since other runs rely on it: this teacher is made beside it.
        workspace = Workspace(workspace.root)
        if directory.is_symlink():
            directory.unlink()
    compress(recipe, workspace, until="teacher", force=force)
    accuracy = json.loads((directory / "card.json").read_text(encoding="utf-8"))["accuracy"]
    split = "test" if "test" in accuracy else "dev"
    seconds = workspace.seconds("teacher")
    assert seconds is not None  # it has just been made
    return Outcome({"accuracy": accuracy[split]}, split, seconds, _count_parameters(directory))


def _train_student(recipe: Recipe, workspace: Workspace, force: bool) -> Outcome:
    from export.build import build_bundle

    compress(recipe, workspace, force=force)
    bundle = build_bundle(recipe, workspace, "cpu", force=force)
    models = bundle.manifest.models
    split = bundle.manifest.provenance["report_split"]
    values = {
        metric: _accuracy(models[precision], split)
        for metric, precision in {"accuracy": "fp32", "int8_accuracy": "int8"}.items()
        if precision in models
    }
    seconds = sum(workspace.seconds(stage) or 0 for stage in stages_of(recipe) if stage in OWN_STAGES)
    parameters = count_weights(bundle.directory / next(iter(models.values())).file)
    return Outcome(values, split, round(seconds, 1), parameters)


def _accuracy(entry: ModelEntry, split: str) -> float:
    value = entry.test_accuracy if split == "test" else entry.dev_accuracy
    assert value is not None  # every ONNX model has been judged
    return value


def _count_parameters(teacher: Path) -> int:
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(teacher).num_parameters()
