"""A trained teacher and its student as a cascade: exported, served, asked from Python and from the command line, measured."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
from transformers import AutoModelForSequenceClassification
from typer.testing import CliRunner

from bench.__main__ import app as bench
from compress.__main__ import compress_recipe
from compress.data.corpus import Split
from compress.data.domains import load_student_corpus
from compress.recipe import Recipe, load_recipe
from export.__main__ import export_recipe
from export.build import StudentExport
from export.bundle import MANIFEST, Bundle
from export.facts import bundle_facts
from export.manifest import Cascade, Route
from pocketbert.classifier import Classifier
from serve.app import create_app
from serve.predictor import Predictor
from serve.settings import Settings
from tests.serve.conftest import Client
from tests.tiny_task import SEARCH, tiny_recipe

# A student that has learned too little, so that there is something to do for the teacher.
SETTINGS = [
    *(
        "compress.preset=bilstm",
        "student.width=16",
        "student.hidden=8",
        "compress.epochs=2",
        "compress.learning_rate=2.4e-3",
    ),
    *("cascade.within_points=0", "bench.texts=20", "augmentation.method=none"),
]


@dataclass(frozen=True)
class Made:
    """A finished recipe and its bundle."""

    recipe: Recipe
    root: Path  # of its results
    bundle: Bundle

    @property
    def dev(self) -> Split:
        return load_student_corpus(self.recipe).splits["dev"]

    @property
    def cascade(self) -> Cascade:
        assert self.bundle.manifest.cascade is not None
        return self.bundle.manifest.cascade

    @property
    def route(self) -> Route:
        return self.cascade.routes[self.bundle.manifest.default]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("cascade")
    path = tiny_recipe(folder)
    path.write_text(
        path.read_text().replace('[student]\nkind = "cnn"\nwidth = 16\nmax_cells = 2\n', "").replace(SEARCH, "")
    )
    recipe = load_recipe(path, SETTINGS)
    root = compress_recipe(recipe, folder / "artifacts").root
    return Made(recipe, root, export_recipe(recipe, folder / "artifacts"))


def test_the_bundle_has_the_teacher_in_int8_and_a_curve_from_the_student_to_the_teacher(made: Made) -> None:
    student = made.bundle.manifest.models[made.bundle.manifest.default]
    assert made.cascade.precision == "int8"
    assert made.cascade.tokenizer == "tokenizer.json"  # the student has the teacher's
    assert made.route.curve[0].accuracy == pytest.approx(student.dev_accuracy)
    assert made.route.curve[-1].accuracy == pytest.approx(made.cascade.teacher.dev_accuracy)
    assert 0.6 < made.route.curve[0].accuracy < 0.95 < made.route.curve[-1].accuracy
    assert 0 < made.route.chosen.share < 1
    assert made.route.chosen.accuracy >= made.route.curve[-1].accuracy
    assert made.route.chosen.ms == pytest.approx(
        made.route.student_ms + made.route.chosen.share * made.route.teacher_ms, abs=1e-3
    )


def test_inspect_shows_calibration_and_cascade(made: Made) -> None:
    shown = str(bundle_facts(made.bundle))
    assert "scores: temperature" in shown
    assert "calibration error (ECE) dev" in shown
    assert "cascade: the teacher in int8" in shown
    assert f"{made.route.chosen.share:.1%} of dev, go to the teacher" in shown


def test_served_it_keeps_the_promise_of_its_curve(made: Made) -> None:
    client = Client(create_app(Predictor(Settings(bundle=made.bundle.directory))))
    dev, labels = made.dev, made.bundle.manifest.labels
    answers = [client.classify(text=text).json() for text in dev.texts]
    right = [answer["label"] == labels[label] for answer, label in zip(answers, dev.labels, strict=True)]
    passed = [answer["model"] == "teacher" for answer in answers]
    # One text may differ: dynamic INT8 rounds a text alone a little differently from the same text in a batch.
    assert np.mean(right) == pytest.approx(made.route.chosen.accuracy, abs=0.011)
    assert np.mean(passed) == pytest.approx(made.route.chosen.share, abs=0.011)
    alone = Client(create_app(Predictor(Settings(bundle=made.bundle.directory, cascade=False))))
    by_student = [one["label"] for text in dev.texts for one in [alone.classify(text=text).json()]]
    kept = [(answer["label"], own) for answer, own, p in zip(answers, by_student, passed, strict=True) if not p]
    assert all(label == own for label, own in kept)


def test_python_says_who_answered(made: Made) -> None:
    texts = made.dev.texts
    found = Classifier.load(made.bundle.directory).predict(texts)
    assert {one.model for one in found} == {"student", "teacher"}
    assert all(one.model == "student" for one in Classifier.load(made.bundle.directory, threshold=0.0).predict(texts))
    off = Classifier.load(made.bundle.directory, cascade=False, unsure_below=made.route.chosen.threshold)
    assert [one.model for one in off.predict(texts)] == [None] * len(texts)
    unsure = [one.unsure for one in off.predict(texts)]
    assert unsure == [one.model == "teacher" for one in found]


def test_a_teacher_whose_int8_fails_the_gate_is_taken_in_fp32(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = tmp_path / "teacher"
    shutil.copytree(made.root / "teacher", teacher)
    model = AutoModelForSequenceClassification.from_pretrained(teacher)
    # One huge value that nobody reads takes the whole range of INT8: the pooler's other inputs are rounded to nothing.
    model.bert.encoder.layer[-1].output.LayerNorm.weight.data[0] = 0
    model.bert.encoder.layer[-1].output.LayerNorm.bias.data[0] = 1e5
    model.bert.pooler.dense.weight.data[:, 0] = 0
    model.save_pretrained(teacher)
    (tmp_path / "bundle").mkdir()
    (tmp_path / "scratch").mkdir()
    corpus = load_student_corpus(made.recipe)
    export = StudentExport(
        made.recipe, corpus, made.root / "student", tmp_path / "bundle", tmp_path / "scratch", teacher
    )
    export.run("cpu", "tiny", refuse=True)
    cascade = Bundle(tmp_path / "bundle").manifest.cascade
    assert cascade is not None
    assert cascade.precision == "fp32"
    assert cascade.teacher.file == "teacher.fp32.onnx"
    assert cascade.teacher.dev_accuracy is not None
    assert cascade.teacher.dev_accuracy > 0.9
    assert "int8 (dynamic U8×S8, per channel, embeddings in float) failed the gate" in cascade.teacher.note
    assert "int8 fails the gate, so the cascade has it in fp32" in capsys.readouterr().err.replace("\n", " ")


def test_it_is_measured_beside_the_student_and_the_teacher(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval, percpu: [0.0])  # the machine is idle
    done = CliRunner().invoke(bench, ["cascade", str(made.root), "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "cascade.json").read_text(encoding="utf-8"))
    first, *_, both, teacher = report["rows"]
    assert (first["title"], first["share"]) == ("student alone", 0.0)
    assert first["accuracy"] == pytest.approx(made.route.curve[0].accuracy)
    assert (both["share"], teacher["share"]) == (1.0, 1.0)
    assert both["accuracy"] == teacher["accuracy"] == pytest.approx(made.route.curve[-1].accuracy)
    chosen = next(row for row in report["rows"] if row["threshold"] == made.route.chosen.threshold)
    assert (chosen["share"], chosen["accuracy"]) == pytest.approx(
        (made.route.chosen.share, made.route.chosen.accuracy), abs=0.011
    )
    assert all(row["mean_ms"] > 0 for row in report["rows"])  # how they are taken: tests/bench/test_cascade.py
    assert (tmp_path / "cascade.svg").is_file()
    assert "| student alone |" in (tmp_path / "cascade.md").read_text(encoding="utf-8")


def test_a_bundle_without_a_cascade_is_not_measured(tiny_bundle: Path) -> None:
    done = CliRunner().invoke(bench, ["cascade", str(tiny_bundle)])
    assert "does not say from which recipe it comes" in str(done.exception)


def test_a_bundle_from_before_calibration_is_read_with_a_temperature_of_one(made: Made, tmp_path: Path) -> None:
    old = tmp_path / "bundle"
    shutil.copytree(made.bundle.directory, old)
    manifest = json.loads((old / MANIFEST).read_text(encoding="utf-8"))
    del manifest["cascade"]
    for model in manifest["models"].values():
        del model["calibration"]
    (old / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    answer = Classifier.load(old).predict("the film was good")
    logits = Classifier.load(made.bundle.directory, cascade=False).predict("the film was good")
    assert answer.label == logits.label
    temperature = made.bundle.manifest.models[made.bundle.manifest.default].temperature
    odds, calibrated = (np.log(one.score / (1 - one.score)) for one in (answer, logits))
    assert odds == pytest.approx(calibrated * temperature, rel=1e-2)
