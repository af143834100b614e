"""Intervals by the bootstrap: of accuracies, of what is made of them, of ratios of times.

What was measured together is drawn together: the answers of two models to one text, the times of two engines in one round.
The intervals are percentiles, expanded for few draws: "expanded percentile interval" in Hesterberg, arXiv 1411.5279, §4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

DRAWS = 2000
CONFIDENCE = 0.95
_SEED = 0  # the same report is rendered the same
_STRETCHES = 20  # of the samples of a report without rounds
_AT_ONCE = 100  # draws of a median, to limit the memory

Statistic = Literal["median", "mean"]
Answers = NDArray[np.bool_]  # (N,): whether a model is right on each of N texts
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A figure and where it could be."""

    value: float
    low: float
    high: float


def of_accuracies(
    answers: Sequence[Answers],
    statistic: Callable[..., FloatArray],
    *,
    paired: bool = True,
    confidence: float = CONFIDENCE,
) -> Interval:
    """The interval of a function of accuracies over drawings of the texts.

    :param answers: of several models.
    :param statistic: of the models' accuracies, fractions of 1; each is an array of any shape.
    :param paired: all answers are to the same texts, which are drawn for all models together.
    """
    rng = np.random.default_rng(_SEED)
    value = float(statistic(*(np.asarray(of_model.mean()) for of_model in answers)))
    if paired:
        # How often each combination of right and wrong is drawn; it is all that the accuracies depend on.
        patterns, counts = np.unique(np.stack(answers), axis=1, return_counts=True)
        drawn = rng.multinomial(counts.sum(), counts / counts.sum(), size=DRAWS)  # (draws, patterns)
        accuracies = [drawn @ row / counts.sum() for row in patterns.astype(float)]
    else:
        accuracies = [rng.binomial(len(of_model), of_model.mean(), size=DRAWS) / len(of_model) for of_model in answers]
    return _interval(value, statistic(*accuracies), confidence, min(map(len, answers)))


def of_ratio(
    above: Sequence[FloatArray],
    below: Sequence[FloatArray],
    statistic: Statistic,
    *,
    paired: bool = True,
    confidence: float = CONFIDENCE,
) -> Interval:
    """The interval of statistic(above) / statistic(below) over drawings of rounds.

    :param above: the samples of each round.
    :param below: likewise.
    :param statistic: of all samples of all rounds.
    :param paired: both have the same rounds, which are drawn for both together.
    """
    assert not paired or len(above) == len(below), "pairs are of the same rounds"
    rng = np.random.default_rng(_SEED)
    first = _draw_rounds(len(above), rng)
    second = first if paired else _draw_rounds(len(below), rng)
    ratios = _drawn(above, first, statistic) / _drawn(below, second, statistic)
    of_all = np.median if statistic == "median" else np.mean
    value = float(of_all(np.concatenate(list(above))) / of_all(np.concatenate(list(below))))
    return _interval(value, ratios, confidence, min(len(above), len(below)))


def in_rounds(samples: Sequence[float], rounds: Sequence[int]) -> list[FloatArray]:
    """Samples by their rounds. Without rounds, as in older reports, stretches of neighbours: what disturbs one disturbs the next."""
    values = np.asarray(samples, dtype=float)
    if not rounds:
        return np.array_split(values, min(len(values), _STRETCHES))
    return np.split(values, np.cumsum(rounds)[:-1])


def _draw_rounds(rounds: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """How often each round is drawn, (draws, rounds)."""
    return rng.multinomial(rounds, np.full(rounds, 1 / rounds), size=DRAWS)


def _drawn(rounds: Sequence[FloatArray], times: NDArray[np.int64], statistic: Statistic) -> FloatArray:
    """The statistic of the samples of each draw, (draws,)."""
    if statistic == "mean":
        sums, sizes = (
            np.array([of_round.sum() for of_round in rounds]),
            np.array([len(of_round) for of_round in rounds]),
        )
        return (times @ sums) / (times @ sizes)
    values = np.concatenate(list(rounds))
    order = np.argsort(values, kind="stable")
    of_round = np.repeat(np.arange(len(rounds)), [len(one) for one in rounds])[order]
    median = np.empty(len(times))
    for start in range(0, len(times), _AT_ONCE):
        weights = np.cumsum(times[start : start + _AT_ONCE, of_round], axis=1)  # (draws, samples)
        half = weights[:, -1:] / 2
        low, high = (weights < half).sum(axis=1), (weights <= half).sum(axis=1)
        median[start : start + _AT_ONCE] = (values[order[low]] + values[order[high]]) / 2
    return median


def _interval(value: float, drawn: FloatArray, confidence: float, size: int) -> Interval:
    """Draws that are not finite, such as a share of no gap, count as the widest on both sides.

    :param size: how many things are drawn from; with one there is no interval.
    """
    if size < 2:
        return Interval(value, -np.inf, np.inf)
    tail = stats.norm.cdf(np.sqrt(size / (size - 1)) * stats.t.ppf((1 - confidence) / 2, size - 1))
    finite = np.isfinite(drawn)
    low = np.quantile(np.where(finite, drawn, -np.inf), tail, method="lower")
    high = np.quantile(np.where(finite, drawn, np.inf), 1 - tail, method="higher")
    return Interval(value, float(low), float(high))
