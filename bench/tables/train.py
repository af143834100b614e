"""One run of a table: compress, export, read the results."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.engines.onnx import count_weights
from bench.tables.table import Run, Table
from compress.baselines.linear import read_linear
from compress.data.corpus import Corpus, Split
from compress.data.domains import load_student_corpus
from compress.data.files import fingerprint
from compress.pipeline.run import compress
from compress.pipeline.stages import stage_keys, stages_of
from compress.pipeline.workspace import Workspace
from compress.recipe import Recipe
from compress.runtime.errors import UserError
from export.bundle import Bundle
from export.manifest import ModelEntry
from export.session import BundleSession

OWN_STAGES = (
    "language_model",
    "augmented",
    "search",
    "trials",
    "student",
)  # their times are the student's; the times of the teacher's two stages are not


@dataclass(frozen=True)
class Outcome:
    """Result of a run."""

    values: dict[str, float]  # fractions of 1, by metric
    split: str  # the values are of this split
    seconds: float | None  # of training; None: not known
    parameters: int | None  # None: not counted


def workspace_of(table: Table, run: Run, artifacts: Path) -> Workspace:
    """The workspace of a run. All tables have one store for what runs share: the teacher and its outputs."""
    root = artifacts / "tables"
    return Workspace(root / table.name / f"{run.data}-{run.seed}" / run.method, store=root / "store")


def run_key(table: Table, run: Run, recipe: Recipe, search: Recipe | None = None) -> str:
    """Hash of all that the run's values depend on: data, recipe, version of this project. Imports no torch.

    :param search: the search of this recipe gives the architecture. None: that of `recipe` does.
    """
    if search is not None:
        return fingerprint(run_key(table, run, recipe), stage_keys(search)["architecture"])[:16]
    if stop := table.method[run.method].stop:
        judged_on = () if recipe.domains.student is None else (recipe.domains.student,)
        return fingerprint(stage_keys(recipe)["linear" if stop == "linear" else "teacher"], *judged_on)[:16]
    return fingerprint(stage_keys(recipe)["student"], recipe.export.model_dump(mode="json"))[:16]


def train(
    table: Table, run: Run, recipe: Recipe, artifacts: Path, *, search: Recipe | None = None, force: bool = False
) -> Outcome:
    """Make all stages of the run that are not up to date, and read the results.

    :param search: the search of this recipe gives the architecture. None: that of `recipe` does. With `search`, the student
        starts with new weights, even if both recipes are for the same task.
    :param force: make the student and its bundle again, from the stored teacher; in a teacher's row, the teacher.
    :raises UserError: the recipe's data or models cannot be used, or another process works on the same run.
    """
    workspace = workspace_of(table, run, artifacts)
    positive = table.data[run.data].positive
    if positive and positive not in (labels := load_student_corpus(recipe).labels):
        raise UserError(f"data.{run.data}.positive: no label {positive!r}; the data have {', '.join(labels)}")
    if search is not None:
        recipe = _with_architecture(recipe, _searched(table, run, search, artifacts))
    with workspace.locked():
        stop = table.method[run.method].stop
        if stop == "linear":
            return _train_linear(table, run, recipe, workspace, force)
        if stop:
            return _train_teacher(table, run, recipe, workspace, force)
        return _train_student(table, run, recipe, workspace, force)


def _searched(table: Table, run: Run, search: Recipe, artifacts: Path) -> Path:
    """File of the genotype that a search on another column found. All runs that take it share one search."""
    from export.measure import int8_latency

    origin = table.search_of(run)
    assert origin is not None  # else there is no recipe for it
    workspace = Workspace(
        artifacts / "tables" / table.name / f"{origin.data}-{origin.seed}" / f"{origin.method}.search",
        store=artifacts / "tables" / "store",
    )
    with workspace.locked(wait=True):
        return compress(search, workspace, until="architecture", latency=int8_latency) / "genotype.json"


def _with_architecture(recipe: Recipe, genotype: Path) -> Recipe:
    student = recipe.student.model_copy(update={"architecture": str(genotype.absolute())})
    return recipe.model_copy(update={"student": student})


def _train_linear(table: Table, run: Run, recipe: Recipe, workspace: Workspace, force: bool) -> Outcome:
    if force:
        workspace = Workspace(workspace.root)  # other runs use the store, so nothing in it is made again
    found = read_linear(compress(recipe, workspace, until="linear"))
    split = report_split(found["accuracy"])
    return Outcome({table.metric(run.data, "fp32"): found["accuracy"][split]}, split, found["seconds"], None)


def _frozen(card: dict[str, Any], recipe: Recipe) -> dict[str, float]:
    """The accuracies by split of logistic regression on the frozen encoder.

    :raises UserError: it was not fitted, or not on the student's texts.
    """
    if "frozen" not in card:
        raise UserError(
            "teacher.fine_tuned: a fine-tuned teacher has no frozen encoder to compare with; leave the row out"
        )
    if recipe.domains.student is not None:
        raise UserError("domains.student: the frozen encoder is measured on all domains; leave the row out")
    return card["frozen"]["accuracy"]


def report_split(accuracy: dict[str, float]) -> str:
    """The split to report, of those with an accuracy."""
    return "test" if "test" in accuracy else "dev"


def _train_teacher(table: Table, run: Run, recipe: Recipe, workspace: Workspace, force: bool) -> Outcome:
    directory = workspace.root / "teacher"
    if force:
        # Other runs use the store, so nothing in it is made again. This teacher gets a workspace without a store.
        workspace = Workspace(workspace.root)
        if directory.is_symlink():
            directory.unlink()
    compress(recipe, workspace, until="teacher", force=force)
    card = json.loads((directory / "card.json").read_text(encoding="utf-8"))
    split = report_split(card["accuracy"])
    if table.method[run.method].stop == "frozen":
        value = _frozen(card, recipe)[split]
        return Outcome({table.metric(run.data, "fp32"): value}, split, None, None)
    domain = recipe.domains.student
    value = card["accuracy"][split] if domain is None else card["domain_accuracy"][split][domain]
    if positive := table.data[run.data].positive:
        corpus = load_student_corpus(recipe)
        predicted = teacher_logits(directory, recipe.target.max_length, corpus.splits[split]).argmax(axis=1)
        value = _f1(predicted, corpus, split, positive)
    seconds = workspace.seconds("teacher")
    assert seconds is not None  # it has just been made
    return Outcome({table.metric(run.data, "fp32"): value}, split, seconds, count_parameters(directory))


def _train_student(table: Table, run: Run, recipe: Recipe, workspace: Workspace, force: bool) -> Outcome:
    from export.build import build_bundle
    from export.judge import int8_teacher
    from export.measure import int8_latency

    compress(recipe, workspace, force=force, latency=int8_latency, int8=int8_teacher)
    bundle = build_bundle(recipe, workspace, "cpu", force=force, refuse=False)
    models = bundle.manifest.models
    split = bundle.manifest.provenance["report_split"]
    values = {}
    for precision in table.precisions_of(run.method):
        value = _accuracy(models[precision], split)
        if positive := table.data[run.data].positive:
            corpus = load_student_corpus(recipe)
            predicted = student_logits(bundle, precision, corpus.splits[split]).argmax(axis=1)
            value = _f1(predicted, corpus, split, positive)
        values[table.metric(run.data, precision)] = value
    seconds = sum(workspace.seconds(stage.name) or 0 for stage in stages_of(recipe) if stage.name in OWN_STAGES)
    parameters = count_weights(bundle.directory / next(iter(models.values())).file)
    return Outcome(values, split, round(seconds, 1), parameters)


def _accuracy(entry: ModelEntry, split: str) -> float:
    value = entry.test_accuracy if split == "test" else entry.dev_accuracy
    assert value is not None  # the accuracy gate has measured every ONNX model
    return value


def _f1(predicted: NDArray[np.int64], corpus: Corpus, split: str, positive: str) -> float:
    """F1 of one label on a split."""
    from sklearn.metrics import f1_score

    wanted = corpus.labels.index(positive)
    right = np.asarray(corpus.splits[split].labels) == wanted
    return round(float(f1_score(right, predicted == wanted, zero_division=0)), 5)


def student_logits(bundle: Bundle, precision: str, split: Split) -> NDArray[np.float32]:
    """The student's logits on each text, (N, C), before any calibration."""
    session = BundleSession(bundle, precision=precision)
    return session.logits(session.encoder.encode(split.texts, split.texts_b))


def teacher_logits(directory: Path, max_length: int, split: Split) -> NDArray[np.float32]:
    """The logits of a fine-tuned teacher in PyTorch on each text, (N, C)."""
    from compress.data.batches import encode_split
    from compress.teachers.finetune import open_teacher
    from compress.training.accelerator import make_accelerator
    from compress.training.evaluation import predict_logits

    model, encoder = open_teacher(directory, max_length)
    model.to(make_accelerator().device)
    return predict_logits(model, encode_split(split, encoder)).numpy()


def count_parameters(teacher: Path) -> int:
    """Number of weights of a fine-tuned teacher."""
    from compress.teachers.finetune import open_teacher

    return open_teacher(teacher, 1)[0].num_parameters()
