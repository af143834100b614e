"""The figures of a report that are made of several engines or texts, with their intervals."""

from __future__ import annotations

from typing import Literal

import numpy as np

from bench.bootstrap import CONFIDENCE, Answers, FloatArray, Interval, in_rounds, of_accuracies, of_ratio
from bench.cells import Accuracy, Cell, EngineResult
from bench.report import Report

Measure = Literal["p50", "texts/s"]


def answers(accuracy: Accuracy) -> Answers:
    """Whether each text was answered correctly; without a record of it, in any order, good for this model alone."""
    if accuracy.right is None:
        return np.arange(accuracy.total) < accuracy.correct
    return np.frombuffer(accuracy.right.encode(), dtype=np.uint8) == ord("1")


def accuracy_interval(accuracy: Accuracy) -> Interval:
    """Accuracy as a fraction of 1, over drawings of the texts."""
    return of_accuracies([answers(accuracy)], lambda own: own)


def share_of_gap(report: Report, engine: EngineResult) -> Interval | None:
    """(engine − linear) / (teacher − linear), over drawings of the texts.

    None if one of the three has no answers in the report, or the teacher is not better than the linear model.
    """
    scores = [known.accuracy if known else None for known in (engine, report.linear, report.teacher)]
    known = [answers(score) for score in scores if score is not None and score.right is not None]
    if len(known) < 3 or known[2].mean() <= known[1].mean():
        return None

    def share(own: FloatArray, linear: FloatArray, teacher: FloatArray) -> FloatArray:
        with np.errstate(divide="ignore", invalid="ignore"):
            # A draw in which the teacher is not better has no gap, and the share could be anything.
            return np.where(teacher > linear, (own - linear) / (teacher - linear), np.inf)

    return of_accuracies(known, share)


def teacher_share(report: Report, engine: EngineResult) -> float | None:
    """The engine's accuracy as a share of the teacher's; None if one of them is not known."""
    if report.teacher is None or report.teacher.accuracy is None or engine.accuracy is None:
        return None
    return engine.accuracy.percent / report.teacher.accuracy.percent


def speed_up(
    report: Report, engine: EngineResult, name: str, measure: Measure = "p50", confidence: float = CONFIDENCE
) -> Interval | None:
    """How many times faster than the reference the engine is, over drawings of rounds; None if one was not measured.

    :param name: the input.
    :param measure: `p50` at batch 1 or `texts/s` at the report's batch size.
    """
    size = 1 if measure == "p50" else report.batch_size
    own, reference = report.cell(engine, name, size), report.cell(report.reference, name, size)
    if own is None or reference is None:
        return None
    return time_ratio(reference, own, measure, paired=report.interleaved, confidence=confidence)


def time_ratio(above: Cell, below: Cell, measure: Measure, *, paired: bool, confidence: float = CONFIDENCE) -> Interval:
    """The ratio of two cells' times, tokenisation included: of the medians, or of the times of a text on average.

    :param paired: the engines took turns.
    """
    first, second = (in_rounds(cell.total_ms, cell.rounds) for cell in (above, below))
    together = paired and len(above.rounds) == len(below.rounds) > 0
    if measure == "p50":
        return of_ratio(first, second, "median", paired=together, confidence=confidence)
    # A time of a batch is not that of a text: the last batch of the own texts may be smaller, in all engines alike.
    return of_ratio(first, second, "mean", paired=together, confidence=confidence)
