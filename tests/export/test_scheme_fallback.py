"""The exporter tries the next quantisation scheme if one fails the gate. Trained students, the real quantiser, the real gate."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
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
# How many times larger one row of the embedding table is than all others. INT8 gives the whole table one scale, so the other
# rows become almost 0. The CNN has a smaller factor, because its fp32 graph must still agree with PyTorch.
FACTORS = {"bilstm": 300.0, "cnn": 100.0}
UNUSED_TOKEN = (
    "[MASK]"  # in no text of the task, so fp32 accuracy and the ranges of activations do not depend on its row
)


@dataclass(frozen=True)
class Trained:
    """A student trained on the tiny task, and what is needed to export it."""

    kind: str
    student: Student
    recipe: Recipe
    tokenizer: Path

    @property
    def table(self) -> torch.Tensor:
        """The embedding table (V, D)."""
        (table,) = (weight for name, weight in self.student.named_parameters() if name.startswith("embeddings."))
        return table.data

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
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp(request.param)
    recipe = load_recipe(tiny_recipe(folder), [f"export.budget={BUDGET}"])
    encoder = TextEncoder(folder / "bert" / TOKENIZER, recipe.target.max_length)
    size = {"vocab_size": encoder.tokenizer.get_vocab_size(), "width": 16, "num_labels": 2}
    torch.manual_seed(0)
    student: Student
    if request.param == "cnn":
        student = CnnStudent(CnnStudentConfig(genotype=GENOTYPE.model_dump(mode="json"), **size))
    else:
        student = BiLstmStudent(BiLstmConfig(hidden=16, **size))
    train(student, recipe, encoder, EPOCHS[request.param])
    return Trained(request.param, student, recipe, folder / "bert" / TOKENIZER)


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


def test_a_scheme_that_fails_the_gate_is_followed_by_the_next_one(trained: Trained, tmp_path: Path) -> None:
    row = TextEncoder(trained.tokenizer, 32).tokenizer.token_to_id(UNUSED_TOKEN)
    before = trained.table[row].clone()
    trained.table[row] = FACTORS[trained.kind] * trained.table.abs().max()
    try:
        bundle = trained.export(tmp_path)
    finally:
        trained.table[row] = before
    *failed, used = cpu_schemes(trained.student.config.model_type)  # only the last scheme keeps the table in float
    fp32, int8 = bundle.manifest.models["fp32"], bundle.manifest.models["int8"]
    assert fp32.dev_accuracy is not None
    assert fp32.dev_accuracy >= 0.95  # the student has learned the task

    first, *others = int8.note.split("; ")
    assert first == used.note
    assert [other.split(": lost ")[0] for other in others] == [scheme.note for scheme in failed]
    assert all(float(other.split(": lost ")[1].removesuffix(" points")) > BUDGET for other in others)

    assert bundle.manifest.default == "int8"
    assert int8.passed
    assert int8.drop is not None
    assert int8.drop <= BUDGET
    constants = onnx.load(bundle.directory / int8.file).graph.initializer
    tables = [t for t in map(onnx.numpy_helper.to_array, constants) if t.shape == tuple(trained.table.shape)]
    assert [table.dtype for table in tables] == [np.float32]
