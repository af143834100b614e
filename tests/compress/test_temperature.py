"""A teacher that is as sure as it is right."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from compress.data.batches import encode_split
from compress.data.corpus import load_corpus
from compress.recipe import load_recipe
from compress.teachers.calibration import HIGHEST, LOWEST, fit_temperature
from compress.teachers.finetune import open_encoder
from compress.training.evaluation import predict_logits
from tests.compress.test_teacher_heads import made
from tests.tiny_task import tiny_recipe


def answers(count: int = 4000) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, and labels that are drawn with their probabilities: answers that are as sure as they are right."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(count, 3, generator=generator)
    return logits, torch.multinomial(logits.softmax(dim=1), 1, generator=generator)[:, 0]


@pytest.mark.parametrize("temperature", [1.0, 1.3, 3.0])
def test_the_temperature_of_exaggerated_answers_is_found(temperature: float) -> None:
    logits, labels = answers()
    assert fit_temperature(temperature * logits, labels) == pytest.approx(temperature, rel=0.06)


def test_it_has_bounds() -> None:
    logits, labels = answers()
    assert fit_temperature(0.3 * logits, labels) == pytest.approx(LOWEST, abs=1e-3)  # too modest, and left so
    assert fit_temperature(logits, logits.argmax(dim=1)) == pytest.approx(LOWEST, abs=1e-3)  # without an error
    assert fit_temperature(logits, logits.argmin(dim=1)) == pytest.approx(HIGHEST, rel=1e-3)
    assert fit_temperature(torch.zeros(4, 2), torch.tensor([0, 1, 0, 1])) > 0


def test_a_soup_is_calibrated_and_answers_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe(tiny_recipe(tmp_path, rows=120), ["teacher.epochs=2", "teacher.soup=2"])
    card, model = made(recipe, tmp_path / "calibrated")
    monkeypatch.setattr("compress.teachers.finetune.calibrate", lambda model, dev: 1.0)
    before, sure = made(recipe, tmp_path / "as-it-is")
    dev = encode_split(load_corpus(recipe.target).splits["dev"], open_encoder(tmp_path / "calibrated", 32))
    logits, others = predict_logits(model, dev), predict_logits(sure, dev)
    assert card["temperature"] == pytest.approx(fit_temperature(others, dev.labels), abs=1e-3)
    assert torch.allclose(logits * card["temperature"], others, rtol=2e-2, atol=2e-2)  # in bf16, where a CPU has it
    assert card["accuracy"] == before["accuracy"]
    assert F.cross_entropy(logits, dev.labels) <= F.cross_entropy(others, dev.labels) + 1e-4
