"""Calibration: scores become probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from compress.training.temperature import fit_temperature
from export.calibration import calibrate, expected_calibration_error
from export.session import softmax


def drawn(temperature: float, classes: int = 3, texts: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, C), and labels that are drawn from softmax(logits / temperature)."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (texts, classes)).astype(np.float32)
    thresholds = softmax(logits / temperature).cumsum(axis=1)
    return logits, (rng.random((texts, 1)) > thresholds[:, :-1]).sum(axis=1)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_the_temperature_that_the_labels_were_drawn_with_is_found(temperature: float) -> None:
    assert fit_temperature(*drawn(temperature)) == pytest.approx(temperature, rel=0.03)


def test_too_sure_scores_become_probabilities_on_other_texts_too() -> None:
    logits, labels = drawn(2.5)
    splits = {"dev": slice(0, 10_000), "test": slice(10_000, None)}
    found = calibrate({n: logits[s] for n, s in splits.items()}, {n: labels[s] for n, s in splits.items()})
    assert all(found.ece_before[split] > 0.1 for split in splits)
    assert all(found.ece_after[split] < 0.015 for split in splits)


def test_a_model_without_a_mistake_keeps_its_scores() -> None:
    logits = np.array([[2.0, 0.0], [0.0, 1.0]], np.float32)
    assert fit_temperature(logits, np.array([0, 1])) == 1.0


def test_the_calibration_error_by_hand() -> None:
    # Two texts at 0.9, of which one is right: |0.9 − 0.5|. Two texts at 0.6, both right: |0.6 − 1|.
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]], np.float32)
    labels = np.array([0, 1, 1, 1])
    assert expected_calibration_error(probabilities, labels) == pytest.approx(0.4)
    # In one bin the two distances cancel out: mean score 0.75, accuracy 0.75.
    assert expected_calibration_error(probabilities, labels, bins=1) == pytest.approx(0.0, abs=1e-6)


def test_a_score_of_one_is_in_the_last_bin() -> None:
    assert expected_calibration_error(np.array([[1.0, 0.0]], np.float32), np.array([1])) == 1.0
