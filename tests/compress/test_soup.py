"""The mean of several trainings' weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification

from compress.data.corpus import load_corpus
from compress.recipe import load_recipe
from compress.teachers import finetune
from compress.teachers.soup import train_soup
from compress.training import loop
from compress.training.loop import FitState
from compress.training.progress import TrainingProgress
from tests.compress.test_teacher_heads import made
from tests.tiny_task import KilledError, killed_at, tiny_recipe


class Valley:
    """A model of one weight, whose trainings end at places that are given."""

    def __init__(self, *ends: float, metrics: tuple[float, ...]) -> None:
        self.model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
        self.model[0].weight.data.fill_(7.0)
        self.ends, self.metrics = ends, metrics
        self.starts: list[float] = []

    def train(self, number: int) -> FitState:
        self.starts.append(self.weight)
        self.model[0].weight.data.fill_(self.ends[number])
        self.model[1].num_batches_tracked.fill_(5)
        return FitState(best_epoch=1, history=[{"metric": 0.0}, {"metric": self.metrics[number]}])

    @property
    def weight(self) -> float:
        return float(self.model[0].weight.detach())


def test_trainings_start_alike_and_the_mean_is_kept() -> None:
    valley = Valley(1.0, 2.0, 6.0, metrics=(0.8, 0.9, 0.7))
    soup = train_soup(valley.model, 3, valley.train, lambda: 0.8)
    assert valley.starts == [7.0, 7.0, 7.0]
    assert valley.weight == pytest.approx(3.0)
    assert int(valley.model[1].num_batches_tracked) == 5
    assert soup.metric == 0.8
    assert len(soup.history) == 6
    assert soup.card == {"soup": {"alone": [0.8, 0.9, 0.7], "averaged": 0.8, "kept": True}}


def test_a_mean_that_is_worse_than_its_parts_gives_way_to_the_best(capsys: pytest.CaptureFixture[str]) -> None:
    valley = Valley(1.0, 2.0, 6.0, metrics=(0.8, 0.9, 0.7))
    soup = train_soup(valley.model, 3, valley.train, lambda: 0.79)
    assert valley.weight == 2.0
    assert soup.metric == 0.9
    assert soup.card["soup"]["kept"] is False  # type: ignore[index]
    assert "the best is kept" in " ".join(capsys.readouterr().err.split())


def test_one_training_is_as_ever() -> None:
    valley = Valley(1.0, metrics=(0.8,))
    soup = train_soup(valley.model, 1, valley.train, lambda: pytest.fail("nothing to average"))
    assert (valley.weight, soup.metric, soup.card) == (1.0, 0.8, {})


def test_a_teacher_is_the_mean_of_two_trainings(tmp_path: Path) -> None:
    path = tiny_recipe(tmp_path, rows=120)
    settings = ["teacher.epochs=2", "teacher.head_first=true"]
    whole, model = made(load_recipe(path, [*settings, "teacher.soup=2"]), tmp_path / "soup")
    one, first = made(load_recipe(path, settings), tmp_path / "one")
    assert "soup" not in one
    assert len(whole["history"]) == 4
    # The first training is the one that a teacher of one training has.
    assert whole["soup"]["alone"][0] == pytest.approx(max(e["metric"] for e in one["history"]), abs=1e-4)
    assert whole["history"][:2] == one["history"]
    if whole["soup"]["kept"]:
        assert whole["accuracy"]["dev"] == pytest.approx(whole["soup"]["averaged"], abs=1e-4)
    differs = [not torch.equal(a, b) for a, b in zip(model.parameters(), first.parameters(), strict=True)]
    assert any(differs)


def test_a_soup_that_is_killed_carries_on_in_its_second_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(
        tiny_recipe(tmp_path, rows=120), ["teacher.epochs=2", "teacher.head_first=true", "teacher.soup=2"]
    )
    undisturbed, model = made(recipe, tmp_path / "undisturbed")
    corpus, directory = load_corpus(recipe.target), tmp_path / "killed"
    directory.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
        patch.setattr(finetune, "dev_metrics", killed_at(4, finetune.dev_metrics))
        with pytest.raises(KilledError):
            finetune.make_teacher(recipe, corpus, directory, directory / "scratch")
    starts: list[str] = []
    train_epoch = loop._Loop.train_epoch

    def recorded(training: loop._Loop, progress: TrainingProgress) -> None:
        starts.append(progress.name)
        train_epoch(training, progress)

    monkeypatch.setattr(loop._Loop, "train_epoch", recorded)
    finetune.make_teacher(recipe, corpus, directory, directory / "scratch")
    assert starts == ["teacher 2 of 2"]  # its last epoch alone
    card = json.loads((directory / "card.json").read_text(encoding="utf-8"))
    assert card["soup"] == undisturbed["soup"]
    assert card["history"] == undisturbed["history"]
    again = AutoModelForSequenceClassification.from_pretrained(directory)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
