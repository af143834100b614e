"""An accuracy with its standard error: how far it may be from that on endlessly many texts."""

from __future__ import annotations

import math


def standard_error(accuracy: float, texts: int) -> float:
    """The standard error of an accuracy that was measured on so many texts: that of a binomial share, √(p (1 − p) / n)."""
    return math.sqrt(accuracy * (1 - accuracy) / texts)


def show_accuracy(accuracy: float | None, error: float | None = None) -> str:
    """An accuracy in percent with its standard error in points, such as "83.25% ± 0.79".

    :param accuracy: a fraction of 1. None: not measured.
    :param error: its standard error, a fraction of 1. None: not known.
    """
    if accuracy is None:
        return "–"
    return f"{accuracy:.2%}" if error is None else f"{accuracy:.2%} ± {100 * error:.2f}"
