"""The exporter tries the next quantisation scheme if one fails the gate. Trained students, the real quantiser, the real gate."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from compress.data.domains import load_student_corpus
from compress.recipe import Recipe, load_recipe
from compress.runtime.encode import TextEncoder, pad_batch
from compress.students import BiLstmConfig, BiLstmStudent, CnnStudent, CnnStudentConfig
from compress.students.base import Student
from export.build import StudentExport
from export.bundle import TOKENIZER, Bundle
from export.quantize import cpu_schemes
from tests.tiny_task import GENOTYPE, tiny_recipe

BUDGET = 1.0  # points; the default of a recipe
EPOCHS = {"bilstm": 12, "cnn": 6}
UNUSED_TOKEN = (
    "[MASK]"  # in no text of the task, so fp32 accuracy and the ranges of activations do not depend on its row
)
CHANNEL = 3  # of the CNN


@dataclass(frozen=True)
class Trained:
    """A student trained on the tiny task, and what is needed to export it."""

    kind: str
    student: Student
    recipe: Recipe
    tokenizer: Path

    def export(self, directory: Path) -> Bundle:
        checkpoint, bundle, scratch = (directory / name for name in ("student", "bundle", "scratch"))
        bundle.mkdir()
        scratch.mkdir()
        self.student.save_pretrained(checkpoint)
        shutil.copyfile(self.tokenizer, checkpoint / TOKENIZER)
        card = {
            "history": [],
            "recipe": {},
            "teacher": {"accuracy": {"dev": 0.9}},
            "linear": {"accuracy": {"dev": 0.5}},
        }
        (checkpoint / "card.json").write_text(json.dumps(card))
        corpus = load_student_corpus(self.recipe)
        StudentExport(self.recipe, corpus, checkpoint, bundle, scratch).run("cpu", "tiny", refuse=True)
        return Bundle(bundle)


@pytest.fixture(scope="module", params=["bilstm", "cnn"])
def trained(request: pytest.FixtureRequest) -> Trained:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return make_trained("cnn", tmp_path_factory.mktemp("cnn"))


@pytest.fixture(scope="module")
def bilstm(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return make_trained("bilstm", tmp_path_factory.mktemp("bilstm"))


def make_trained(kind: str, folder: Path) -> Trained:
    recipe = load_recipe(tiny_recipe(folder), [f"export.budget={BUDGET}"])
    encoder = TextEncoder(folder / "bert" / TOKENIZER, recipe.target.max_length)
    size = {"vocab_size": encoder.tokenizer.get_vocab_size(), "width": 16, "num_labels": 2}
    torch.manual_seed(0)
    student: Student
    if kind == "cnn":
        student = CnnStudent(CnnStudentConfig(genotype=GENOTYPE.model_dump(mode="json"), **size))
    else:
        student = BiLstmStudent(BiLstmConfig(hidden=16, **size))
    train(student, recipe, encoder, EPOCHS[kind])
    return Trained(kind, student, recipe, folder / "bert" / TOKENIZER)


def train(student: Student, recipe: Recipe, encoder: TextEncoder, epochs: int) -> None:
    """Train on the train split with AdamW and batches of 50 texts."""
    split = load_student_corpus(recipe).splits["train"]
    batch = {name: torch.from_numpy(values) for name, values in pad_batch(encoder.encode(split.texts), 0).items()}
    labels = torch.tensor(split.labels)
    optimizer = torch.optim.AdamW(student.parameters(), lr=5e-3)
    student.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(labels)).split(50):
            optimizer.zero_grad()
            student(batch["input_ids"][rows], batch["attention_mask"][rows], labels=labels[rows]).loss.backward()
            optimizer.step()
    student.eval()


def test_the_first_scheme_is_used_if_it_passes(trained: Trained, tmp_path: Path) -> None:
    manifest = trained.export(tmp_path).manifest
    int8 = manifest.models["int8"]
    assert manifest.default == "int8"
    assert int8.passed
    assert int8.note == cpu_schemes(trained.student.config.model_type)[0].note


def test_where_every_scheme_fails_the_one_layer_at_fault_stays_in_float(bilstm: Trained, tmp_path: Path) -> None:
    """One row of the embedding table is huge. INT8 gives the whole table one scale, so the other rows become almost 0."""
    student = copy.deepcopy(bilstm.student)
    row = TextEncoder(bilstm.tokenizer, 32).tokenizer.token_to_id(UNUSED_TOKEN)
    with torch.no_grad():
        student.embeddings.weight[row] = 300 * student.embeddings.weight.abs().max()
    bundle = replace(bilstm, student=student).export(tmp_path)
    check_fallback(bundle, [scheme.note for scheme in cpu_schemes("pocketbert_bilstm")])
    int8 = bundle.manifest.models["int8"]
    (layer,) = int8.float_layers
    assert int8.note.endswith(f"1 layer in float ({layer})")
    constants = onnx.load(bundle.directory / int8.file).graph.initializer
    tables = [
        t for t in map(onnx.numpy_helper.to_array, constants) if t.shape == tuple(student.embeddings.weight.shape)
    ]
    assert [table.dtype for table in tables] == [np.float32]


def test_where_a_channel_is_an_outlier_as_few_layers_as_possible_stay_in_float(cnn: Trained, tmp_path: Path) -> None:
    """One channel of the last convolution is a huge constant that nothing reads: it widens the ranges of all that it passes."""
    student = copy.deepcopy(cnn.student)
    last, head = student.cells[-1].operations[-1], student.readouts[-1]
    with torch.no_grad():
        last.norm.bias[CHANNEL] = 1e5
        head.classifier.weight.view(2, 2, -1)[:, :, CHANNEL] = 0  # (labels, mean and maximum, channels)
        head.state_weights[:-1] = -20  # the answer comes from the last cell alone
    bundle = replace(cnn, student=student).export(tmp_path)
    check_fallback(bundle, [scheme.note for scheme in cpu_schemes("pocketbert_cnn")])
    int8 = bundle.manifest.models["int8"]
    count = len(int8.float_layers)
    assert 1 < count < 18  # of 35
    assert [len(one.float_layers) for one in int8.attempts if one.passed] == [count]
    assert any(len(one.float_layers) == count - 1 for one in int8.attempts if not one.passed)
    operators = {node.op_type for node in onnx.load(bundle.directory / int8.file).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators


def check_fallback(bundle: Bundle, schemes: list[str]) -> None:
    """Every scheme for the whole graph was tried and failed; INT8 with layers in float passed and is the default."""
    fp32, int8 = bundle.manifest.models["fp32"], bundle.manifest.models["int8"]
    assert fp32.dev_accuracy is not None
    assert fp32.dev_accuracy >= 0.95  # the student has learned the task
    failed = int8.attempts[: len(schemes)]
    assert [(one.quantisation, one.float_layers) for one in failed] == [(note, []) for note in schemes]
    assert all(one.drop > BUDGET and not one.passed for one in failed)
    assert any(one.passed and one.float_layers == int8.float_layers for one in int8.attempts)
    assert int8.float_layers == list(int8.sensitivity)[: len(int8.float_layers)]
    assert bundle.manifest.default == "int8"
    assert int8.passed
    assert int8.drop is not None
    assert int8.drop <= BUDGET
