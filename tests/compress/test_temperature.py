"""A teacher that is as sure as it is right."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForSequenceClassification

from compress.data.batches import encode_split
from compress.data.corpus import load_corpus
from compress.recipe import load_recipe
from compress.teachers.calibration import HIGHEST, LOWEST, calibrate, fit_temperature
from compress.teachers.finetune import open_encoder
from compress.teachers.frozen import fit_heads
from compress.training.evaluation import predict_logits
from compress.training.output_layer import output_layer
from tests.compress.test_teacher_heads import encoder, made, random_texts
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


def test_a_model_that_exaggerates_is_calibrated_and_answers_as_before(tmp_path: Path) -> None:
    # Texts whose first token tells the class, and four of fifty with the other class's label.
    train, dev = random_texts(90, [0, 1]), random_texts(50, [0, 1])
    dev.labels[:4] = 1 - dev.labels[:4]
    model = AutoModelForSequenceClassification.from_pretrained(encoder("bert", tmp_path), num_labels=2)
    fit_heads(model, train, {"dev": dev}, seed=0)["cls"].write_to(model)
    layer = output_layer(model, "a test")
    with torch.no_grad():
        layer.weight.mul_(30)
        layer.bias.mul_(30)
    before = predict_logits(model, dev)
    temperature = calibrate(model, dev)
    after = predict_logits(model, dev)
    assert temperature > 1.5
    assert torch.allclose(after * temperature, before, rtol=2e-2, atol=2e-2)  # in bf16, where a CPU has it
    assert F.cross_entropy(after, dev.labels) < F.cross_entropy(before, dev.labels)


def test_a_soup_is_calibrated(tmp_path: Path) -> None:
    recipe = load_recipe(tiny_recipe(tmp_path, rows=120), ["teacher.soup=2", "teacher.head_first=true"])
    card, model = made(recipe, tmp_path / "soup")
    assert card["soup"]["kept"]
    assert card["accuracy"]["dev"] > 0.8
    dev = encode_split(load_corpus(recipe.target).splits["dev"], open_encoder(tmp_path / "soup", 32))
    logits = card["temperature"] * predict_logits(model, dev)
    assert fit_temperature(logits, dev.labels) == pytest.approx(card["temperature"], rel=0.05)
