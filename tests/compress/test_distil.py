"""Training a student by an objective: what is learned, and that a kill loses nothing."""

from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from compress.data.batches import EncodedSplit, SoftTargets
from compress.distil import student as student_training
from compress.distil.task import StudentTask
from compress.recipe import recipe_from
from compress.runtime.encode import Encoded
from tests.tiny_task import KilledError, killed_at, own_hooks


def bert(layers: int, width: int = 16) -> BertForSequenceClassification:
    torch.manual_seed(layers)
    config = BertConfig(
        vocab_size=40,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=2 * width,
        max_position_embeddings=16,
        num_labels=2,
    )
    return BertForSequenceClassification(config)


def task(rows: int = 48) -> StudentTask:
    generator = torch.Generator().manual_seed(0)
    encoded = []
    for i in range(rows):
        ids = torch.randint(1, 40, (4 + i % 5,), generator=generator).numpy()
        encoded.append(Encoded(ids, ids * 0, ids * 0))
    labels = torch.arange(rows) % 2
    teacher = SoftTargets(torch.nn.functional.one_hot(labels).float() * 4)
    return StudentTask(
        train=EncodedSplit(encoded, labels, pad_token_id=0, teacher=teacher),
        labelled=rows,
        groups=list(range(rows)),
        dev=EncodedSplit(encoded[:16], labels[:16], pad_token_id=0),
        labels=["a", "b"],
        pair=False,
        embeddings=bert(4).bert.embeddings.word_embeddings.weight.detach(),
        seed=0,
    )


def train(scratch: Path, method: str, width: int = 16) -> dict[str, torch.Tensor]:
    settings = {"objective": {"method": method}, "student": {"kind": "transformer"}}
    recipe = recipe_from({"name": "t", **settings, "compress": {"epochs": 3, "batch_size": 8}}, "test")
    student = bert(2, width)
    student_training.train_student(student, bert(4), task(), recipe.objective, recipe.compress, scratch)
    assert not own_hooks(student)
    return student.state_dict()


def test_a_two_stage_training_killed_in_its_second_stage_ends_as_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(tmp_path / "whole", "tinybert", width=24)
    monkeypatch.setattr("compress.training.loop.CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(student_training, "dev_metrics", killed_at(2, student_training.dev_metrics))
    with pytest.raises(KilledError):
        train(tmp_path / "killed", "tinybert", width=24)
    resumed = train(tmp_path / "killed", "tinybert", width=24)
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


@pytest.mark.parametrize("method", ["pkd", "minilm"])
def test_two_trainings_give_the_same_student(tmp_path: Path, method: str) -> None:
    first, second = (train(tmp_path / name, method) for name in ("first", "second"))
    assert all(torch.equal(second[name], value) for name, value in first.items())
    start = bert(2).state_dict()
    assert any(not torch.equal(start[name], value) for name, value in first.items())
