"""Every preset, and points between them, from texts to an INT8 bundle that answers: real trainings of seconds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

import compress.students
from compress.data.batches import EncodedSplit
from compress.data.corpus import load_corpus
from compress.data.teacher_outputs import TeacherOutputs
from compress.pipeline.run import compress
from compress.pipeline.workspace import Workspace
from compress.recipe import Recipe, load_recipe
from compress.runtime.errors import UserError
from compress.training.evaluation import compute_logits
from export.build import build_bundle
from export.bundle import Bundle
from export.session import BundleSession
from tests.tiny_task import sentences, tiny_recipe, write_tsv


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny task's data and teacher; the points share trained teachers through `folder/store`."""
    recipe = tiny_recipe(tmp_path_factory.mktemp("presets"))
    text = recipe.read_text()
    # Only data, teacher and export: the points say the rest.
    recipe.write_text(text[: text.index("[student]")] + text[text.index("[export]") :])
    return recipe.parent


def point(folder: Path, *settings: str) -> Recipe:
    return load_recipe(folder / "tiny.toml", [*settings, "compress.batch_size=16"])


def make(folder: Path, name: str, *settings: str) -> Bundle:
    recipe = point(folder, *settings)
    workspace = Workspace(folder / "artifacts" / name, store=folder / "store")
    compress(recipe, workspace)
    return build_bundle(recipe, workspace, "cpu")


SMALL = {
    "cnn": ["student.kind=cnn", "student.width=16", "compress.average=0.9"],
    "transformer": ["student.layers=2", "compress.learning_rate=1e-3"],
    "bilstm": ["student.width=32", "student.hidden=16", "augmentation.copies=2", "compress.average=0.9"],
}


@pytest.mark.parametrize("preset", ["none", "logits", "distilbert", "pkd", "minilm", "tinybert", "bilstm"])
def test_a_preset_makes_a_student_that_knows_the_task(folder: Path, preset: str) -> None:
    kind = "bilstm" if preset == "bilstm" else "transformer"
    more = ["augmentation.copies=1", "augmentation.epochs=1"] if preset == "tinybert" else []
    bundle = make(folder, preset, f"compress.preset={preset}", *SMALL[kind], *more)
    models = bundle.manifest.models
    assert (models["fp32"].dev_accuracy or 0) >= 0.9
    assert models["int8"].passed
    rows = sentences(60, seed=9)
    predicted = BundleSession(bundle).predict([text for text, _ in rows]).argmax(axis=1)
    right = [bundle.manifest.labels[i] == label for i, (_, label) in zip(predicted, rows, strict=True)]
    assert sum(right) >= 0.9 * len(rows)
    assert (
        bundle.manifest.provenance["recipe"]["objective"]["method"]
        == point(folder, f"compress.preset={preset}").objective.method
    )


@pytest.mark.parametrize("preset", ["logits", "bilstm"])
def test_a_pair_is_read_the_same_way_in_training_and_in_the_bundle(folder: Path, preset: str) -> None:
    firsts, seconds = sentences(80), sentences(80, seed=5)
    rows = [(a, b, label) for (a, label), (b, _) in zip(firsts, seconds, strict=True)]
    pairs = write_tsv(folder / "pairs.tsv", rows, ("one", "two", "label"))
    data = [f"data.train={pairs}", f"data.dev={pairs}", "data.text=one", "data.text_b=two", "teacher.epochs=1"]
    more = [*SMALL["bilstm" if preset == "bilstm" else "transformer"], "transfer.joined=40"]
    bundle = make(folder, f"pair-{preset}", f"compress.preset={preset}", *data, *more, "compress.epochs=1")
    session = BundleSession(bundle, precision="fp32")
    encoded = session.encoder.encode([a for a, _, _ in rows], [b for _, b, _ in rows])
    directory = folder / "artifacts" / f"pair-{preset}" / "student"
    student = AutoModelForSequenceClassification.from_pretrained(directory).eval()
    batch = EncodedSplit(encoded, torch.zeros(len(rows)).long(), pad_token_id=0).batch(range(len(rows)))
    with torch.inference_mode():
        logits = compute_logits(student, batch)
        untold = compute_logits(student, replace(batch, segments=batch.segments * 0, type_ids=batch.type_ids * 0))
    apart = float(np.abs(session.logits(encoded) - logits.numpy()).max())
    # Which text is which matters to the student, if little to one that has learned for a second.
    assert 100 * apart < float((logits - untold).abs().max())


def test_the_axes_combine_freely(folder: Path) -> None:
    """A searched cnn by logits on EDA's texts: a point that no preset names."""
    settings = ["augmentation.method=eda", "augmentation.copies=1", "objective.method=logits"]
    settings += [
        "search.cost=computed",
        "search.epochs=1",
        "search.trials=2",
        "search.trial_steps=10",
        "compress.epochs=4",
    ]
    bundle = make(folder, "free", *SMALL["cnn"], *settings)
    assert (bundle.manifest.models["int8"].dev_accuracy or 0) >= 0.9


def test_runs_with_more_and_fewer_labels_share_a_language_model(folder: Path) -> None:
    """CBERT needs one of the texts, whose labels have no part in it, and then one of the labels."""
    cbert = ["compress.preset=logits", "augmentation.method=cbert", "augmentation.copies=1", "augmentation.epochs=1"]
    small = [*SMALL["transformer"], "teacher.epochs=1", "compress.epochs=1"]
    for name, fraction in (("more", 0.5), ("fewer", 0.2)):
        make(folder, name, *cbert, *small, f"data.train_fraction={fraction}")
    links = [(folder / "artifacts" / name / "language_model").resolve() for name in ("more", "fewer")]
    assert links[0] == links[1]
    assert (links[0] / "model.safetensors").is_file()


def test_unlabelled_texts_can_be_distilled(folder: Path) -> None:
    """The teacher knows all of the labels, the student's twelve texts teach it little: the rest it has from the teacher."""
    settings = ["student.kind=bilstm", *SMALL["bilstm"][:2], "augmentation.method=none", "compress.epochs=6"]
    settings += [
        "compress.average=0.0",
        f"teacher.model={folder / 'artifacts' / 'logits' / 'teacher'}",
        "data.train_limit=12",
    ]
    make(folder, "logits", "compress.preset=logits", *SMALL["transformer"])
    alone = make(folder, "alone", "teacher.fine_tuned=true", *settings)
    settings.append("data.distil_unlabelled=true")
    helped = make(folder, "helped", "teacher.fine_tuned=true", *settings)
    outputs = [TeacherOutputs.load(folder / "artifacts" / name / "teacher_outputs") for name in ("alone", "helped")]
    everything = load_corpus(point(folder, *settings).target)
    assert everything.unlabelled is not None
    assert [len(of.targets.logits) for of in outputs] == [12, 12 + len(everything.unlabelled)]
    accuracies = [bundle.manifest.models["fp32"].dev_accuracy or 0 for bundle in (alone, helped)]
    assert accuracies[1] >= max(0.9, accuracies[0])
    with pytest.raises(UserError, match="distil_unlabelled: there are no unlabelled texts"):
        make(folder, "none-left", *settings, "data.train_limit=100000")


def test_an_architecture_can_be_given_instead_of_searched(folder: Path) -> None:
    small = [*SMALL["cnn"], "augmentation.method=none", "compress.epochs=1"]
    random = make(folder, "random", *small, "student.architecture=random", "student.max_cells=1")
    found = folder / "artifacts" / "random" / "architecture" / "genotype.json"
    given = make(folder, "given", *small, f"student.architecture={found}")
    assert given.manifest.provenance["genotype"] == random.manifest.provenance["genotype"]
    residual = ["student.architecture=residual", "student.max_cells=1", "compress.epochs=6"]
    by_hand = make(folder, "by-hand", *small, *residual)
    assert (by_hand.manifest.models["int8"].dev_accuracy or 0) >= 0.9
    with pytest.raises(UserError, match="no such file"):
        make(folder, "none", *small, "student.architecture=/nowhere/genotype.json")
    (folder / "broken.json").write_text("{}")
    with pytest.raises(UserError, match="not a genotype"):
        make(folder, "broken", *small, f"student.architecture={folder / 'broken.json'}")


def test_a_bert_of_its_own_size_learns_through_projections(folder: Path) -> None:
    size = ["student.init=random", "student.layers=2", "student.width=24", "student.heads=2", "student.intermediate=48"]
    more = ["augmentation.method=none", "compress.learning_rate=3e-3", "objective.intermediate_learning_rate=3e-3"]
    bundle = make(folder, "own-size", "compress.preset=tinybert", *size, *more, "compress.epochs=6")
    assert (bundle.manifest.models["fp32"].dev_accuracy or 0) >= 0.9


def test_what_cannot_fit_is_refused_before_anything_is_trained(folder: Path) -> None:
    recipe = point(folder, "compress.preset=pkd", "student.init=random", "student.width=24", "student.heads=2")
    workspace = Workspace(folder / "artifacts" / "refused")
    with pytest.raises(UserError, match="24 wide and the teacher 32"):
        compress(recipe, workspace)
    assert not (workspace.root / "teacher").exists()
