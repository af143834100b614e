"""Temperature scaling (Guo et al. 2017, arXiv 1706.04599, §4.2): one number for all logits, so that a model is as sure as it is right."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

LARGEST = 20.0  # temperature; the smallest is 1 / LARGEST


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The temperature with the smallest negative log-likelihood (NLL) of the labels.

    It is 1 if the model makes no mistake: then the NLL falls for ever as the temperature does, and every text would get a score
    of 1. The NLL is convex in 1 / temperature, so it has one minimum in the logarithm of it too.

    :param logits: (N, C).
    :param labels: the right classes (N,).
    """
    if (logits.argmax(axis=1) == labels).all():
        return 1.0
    values, rows = logits.astype(np.float64), np.arange(len(labels))

    def nll(log_inverse: float) -> float:
        return -float(log_softmax(values * np.exp(log_inverse), axis=1)[rows, labels].mean())

    found = minimize_scalar(nll, bounds=(-np.log(LARGEST), np.log(LARGEST)), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(-found.x))
