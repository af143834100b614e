"""Logistic regression on dense features: the strength of its regularisation is chosen on dev."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

Examples = tuple[NDArray[np.float32], NDArray[np.int64]]  # features (N, d) and labels (N,)


@dataclass(frozen=True)
class LinearHead:
    """Logits x · weightᵀ + bias of the features themselves: their scaling is part of the weights."""

    weight: NDArray[np.float32]  # (C, d)
    bias: NDArray[np.float32]  # (C,)
    accuracy: dict[str, float]  # by split, fractions of 1


def fit_logistic(
    train: Examples,
    held_out: dict[str, Examples],
    labels: int,
    *,
    strengths: Sequence[float],
    max_iterations: int,
) -> LinearHead:
    """The best of the heads with these `strengths` on `held_out["dev"]`; of equals, the first.

    :param labels: C. A class without a text gets the lowest bias.
    :param strengths: values of C of the regression, the inverse of its regularisation.
    """
    x, y = train
    mean, std = x.mean(axis=0), x.std(axis=0) + 1e-6
    scaled, found = (x - mean) / std, []
    for strength in strengths:
        model = LogisticRegression(C=strength, max_iter=max_iterations)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the accuracy stands long before the weights do
            model.fit(scaled, y)
        weight, bias = _of_all_classes(model, labels)
        weight = weight / std
        bias = bias - weight @ mean
        accuracy = {
            split: float(((of_split @ weight.T + bias).argmax(axis=1) == wanted).mean())
            for split, (of_split, wanted) in held_out.items()
        }
        found.append(LinearHead(weight, bias, accuracy))
    return max(found, key=lambda head: head.accuracy["dev"])


def _of_all_classes(model: LogisticRegression, labels: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights (C, d) and biases (C,)."""
    coefficients, intercepts = model.coef_, model.intercept_
    if len(coefficients) == 1:  # of two classes, scikit-learn has the second one's
        coefficients = np.concatenate([-coefficients / 2, coefficients / 2])
        intercepts = np.concatenate([-intercepts / 2, intercepts / 2])
    weight = np.zeros((labels, coefficients.shape[1]), np.float32)
    bias = np.full(labels, intercepts.min(), np.float32)
    weight[model.classes_], bias[model.classes_] = coefficients, intercepts
    return weight, bias
