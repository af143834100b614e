"""A teacher that is as sure as it is right."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from transformers import PreTrainedModel

from compress.data.batches import EncodedSplit, encode_split
from compress.data.corpus import load_corpus
from compress.heads import MEAN_CLASSIFIERS
from compress.recipe import load_recipe
from compress.teachers.calibration import calibrate
from compress.teachers.finetune import open_encoder
from compress.teachers.frozen import fit_heads
from compress.training.evaluation import predict_logits
from compress.training.output_layer import output_layer
from compress.training.temperature import fit_temperature
from tests.compress.test_teacher_heads import encoder, made, random_texts
from tests.tiny_task import tiny_recipe


def classifier(directory: Path, dev: EncodedSplit, factor: float) -> PreTrainedModel:
    """A model with a fitted head, and its logits times a factor."""
    model = MEAN_CLASSIFIERS["bert"].from_pretrained(encoder("bert", directory), num_labels=2)
    fit_heads(model, random_texts(90, [0, 1]), {"dev": dev}, seed=0)["mean"].write_to(model)
    layer = output_layer(model, "a test")
    with torch.no_grad():
        layer.weight.mul_(factor)
        layer.bias.mul_(factor)
    return model


def test_a_model_that_exaggerates_is_calibrated_and_answers_as_before(tmp_path: Path) -> None:
    dev = random_texts(50, [0, 1])
    dev.labels[:4] = 1 - dev.labels[:4]  # four of fifty with the other class's label
    model = classifier(tmp_path, dev, 30)
    before = predict_logits(model, dev)
    temperature = calibrate(model, dev)
    after = predict_logits(model, dev)
    assert 1.5 < temperature < 19
    assert (after.argmax(dim=1) == dev.labels).float().mean() > 0.85
    assert torch.allclose(after * temperature, before, rtol=2e-2, atol=2e-2)  # in bf16, where a CPU has it
    assert F.cross_entropy(after, dev.labels) < F.cross_entropy(before, dev.labels)


def test_a_soup_is_calibrated(tmp_path: Path) -> None:
    recipe = load_recipe(tiny_recipe(tmp_path, rows=120), ["teacher.soup=2", "teacher.head_first=true"])
    card, model = made(recipe, tmp_path / "soup")
    assert card["soup"]["kept"]
    assert card["accuracy"]["dev"] > 0.8
    dev = encode_split(load_corpus(recipe.target).splits["dev"], open_encoder(tmp_path / "soup", 32))
    logits = card["temperature"] * predict_logits(model, dev)
    assert max(1.0, fit_temperature(logits.numpy(), dev.labels.numpy())) == pytest.approx(card["temperature"], rel=0.05)


def test_a_modest_model_stays_as_it_is(tmp_path: Path) -> None:
    dev = random_texts(50, [0, 1])
    model = classifier(tmp_path, dev, 0.1)
    before = predict_logits(model, dev)
    assert calibrate(model, dev) == 1.0
    assert torch.equal(predict_logits(model, dev), before)
