"""Calibration: a model's scores become probabilities, by one number that is fitted on dev.

Temperature scaling, Guo et al. 2017, "On Calibration of Modern Neural Networks" (arXiv 1706.04599), section 4.2. It changes no
label, since it divides all logits of a text by the same number.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from compress.training.temperature import fit_temperature
from export.manifest import Calibration

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
BINS = 15  # of the ECE, as in the paper


def calibrate(logits: Mapping[str, FloatArray], labels: Mapping[str, IntArray]) -> Calibration:
    """Fit the temperature on dev and measure the ECE before and after, on every split.

    :param logits: those (N, C) of each split; "dev" is one of them.
    :param labels: the right classes (N,) of the same splits.
    """
    temperature = round(fit_temperature(logits["dev"], labels["dev"]), 4)
    return Calibration(
        temperature=temperature,
        ece_before={name: _error(values, labels[name]) for name, values in logits.items()},
        ece_after={name: _error(values / temperature, labels[name]) for name, values in logits.items()},
    )


def expected_calibration_error(probabilities: FloatArray, labels: IntArray, bins: int = BINS) -> float:
    """The mean distance between score and accuracy: equation 3 of the paper, over bins of equal width of the largest probability.

    :param probabilities: (N, C).
    :param labels: the right classes (N,).
    """
    scores, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    number = np.clip(
        np.ceil(scores * bins).astype(int) - 1, 0, bins - 1
    )  # of the bin ((m - 1) / M, m / M] of each text
    distance = np.bincount(number, scores, bins) - np.bincount(number, right, bins)
    return float(np.abs(distance).sum() / len(labels))


def _error(logits: FloatArray, labels: IntArray) -> float:
    return round(expected_calibration_error(softmax(logits, axis=1), labels), 5)
