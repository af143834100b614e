"""Two reports of one task: what became faster or slower, more or less accurate, and whether that is more than chance."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from bench.bootstrap import Interval, of_accuracies
from bench.cells import OWN_TEXTS, Cell, EngineResult
from bench.figures import Measure, answers, speed_up, time_ratio
from bench.report import Report
from bench.text import in_brackets, significant
from compress.runtime.errors import UserError

CONFIDENCE = 0.99  # there are dozens of comparisons, of which none should be wrong by chance
TOLERANCE = 0.1  # two runs of one program differ by so much

Verdict = Literal["better", "worse", "same"]


@dataclass(frozen=True)
class Difference:
    """One figure of one engine in both reports."""

    engine: str
    figure: str
    old: str
    new: str
    change: Interval  # new − old of an accuracy, new / old of a time or a speed-up
    verdict: Verdict
    counts: bool = True  # False: the machines differ, so that it says nothing about the program

    def row(self) -> list[str]:
        """As a table shows it."""
        if self.figure == "accuracy, %":
            change = f"{100 * self.change.value:+.2f} points{in_brackets(self.change, 100, 2)}"
        else:
            change = f"{significant(self.change.value)}×{in_brackets(self.change)}"
        return [
            self.engine,
            self.figure,
            self.old,
            self.new,
            change,
            self.verdict if self.counts else "another machine",
        ]


HEADER = ["Engine", "Figure", "Old", "New", "Change", "Verdict"]


def diff(old: Report, new: Report, *, tolerance: float = TOLERANCE) -> list[Difference]:
    """All figures that both reports have.

    A difference is one that the bootstrap's interval shows and that is larger than `tolerance`, of a time or a ratio; of an
    accuracy, any.

    :raises UserError: the reports have no engine in common, no figure in common, or are of different texts.
    """
    if old.texts is not None and new.texts is not None and old.texts != new.texts:
        raise UserError(
            f"the reports are of different texts of {old.name} and {new.name}: accuracies cannot be compared"
        )
    pairs = [(engine, other) for engine in old.engines if (other := new.engine(engine.spec.name))]
    if not pairs:
        raise UserError("the reports have no engine in common; measure the same ones with --only")
    found = [difference for pair in pairs for difference in _differences(old, new, *pair, tolerance)]
    if not found:
        raise UserError(
            "the reports have no figure in common; measure both at the same bench.lengths and bench.batch_size"
        )
    return found


def not_compared(old: Report, new: Report) -> Iterator[str]:
    """What only one report has, or each of other texts; a line each."""
    names = [{engine.spec.name for engine in report.engines} for report in (old, new)]
    if alone := sorted(names[0] ^ names[1]):
        yield f"in one report only: {', '.join(alone)}"
    if OWN_TEXTS in {*old.inputs} & {*new.inputs} and old.own_texts != new.own_texts:
        yield f"{OWN_TEXTS}: not compared, since there are {old.own_texts} and {new.own_texts} of them; measure with one bench.texts"


def _differences(
    old: Report, new: Report, before: EngineResult, after: EngineResult, tolerance: float
) -> Iterator[Difference]:
    name = before.spec.name
    if before.accuracy and after.accuracy:
        paired = (
            old.texts is not None
            and old.texts == new.texts
            and None not in (before.accuracy.right, after.accuracy.right)
        )
        both = [answers(before.accuracy), answers(after.accuracy)]
        change = of_accuracies(both, lambda first, second: second - first, paired=paired, confidence=CONFIDENCE)
        shown = [f"{accuracy.percent:.2f}" for accuracy in (before.accuracy, after.accuracy)]
        yield Difference(name, "accuracy, %", shown[0], shown[1], change, _verdict(change, 0, 0))
    machines = [(report.environment.cpu, report.environment.gpu, report.threads) for report in (old, new)]
    for cell in before.cells:
        other = new.cell(after, cell.input, cell.batch_size)
        same_texts = cell.input != OWN_TEXTS or old.own_texts == new.own_texts
        if other is not None and same_texts:
            yield _of_time(name, cell, other, tolerance, machines[0] == machines[1])
            if (found := _of_speed_up(old, new, before, after, cell, tolerance)) is not None:
                yield found


def _of_time(name: str, cell: Cell, other: Cell, tolerance: float, same_machine: bool) -> Difference:
    if cell.batch_size == 1:
        change = time_ratio(other, cell, "p50", paired=False, confidence=CONFIDENCE)
        figure, shown = f"p50 ms, {cell.input}", [c.summary.total_ms["p50"] for c in (cell, other)]
        verdict = _verdict(change, 1, tolerance, smaller_is_better=True)
    else:
        change = time_ratio(cell, other, "texts/s", paired=False, confidence=CONFIDENCE)
        figure, shown = f"texts/s, {cell.input}", [c.summary.total_texts_per_s for c in (cell, other)]
        verdict = _verdict(change, 1, tolerance)
    return Difference(name, figure, significant(shown[0]), significant(shown[1]), change, verdict, same_machine)


def _of_speed_up(
    old: Report, new: Report, before: EngineResult, after: EngineResult, cell: Cell, tolerance: float
) -> Difference | None:
    """None for the reference itself, and where a report has no reference."""
    measure: Measure = "p50" if cell.batch_size == 1 else "texts/s"
    ratios = [
        speed_up(report, engine, cell.input, measure, CONFIDENCE) for report, engine in ((old, before), (new, after))
    ]
    if before is old.reference or ratios[0] is None or ratios[1] is None:
        return None
    change = _quotient(ratios[1], ratios[0])
    figure = f"speed-up ({measure}), {cell.input}"
    shown = [f"{significant(ratio.value)}×" for ratio in ratios if ratio]
    return Difference(before.spec.name, figure, shown[0], shown[1], change, _verdict(change, 1, tolerance))


def _quotient(above: Interval, below: Interval) -> Interval:
    """The interval of a quotient of two figures that were measured independently (MOVER: Zou & Donner, 2008, §2, of logarithms)."""
    value = above.value / below.value
    if not all(0 < end < math.inf for one in (above, below) for end in (one.low, one.high)):  # too few rounds to tell
        return Interval(value, 0.0, math.inf)
    down = math.hypot(math.log(above.value / above.low), math.log(below.high / below.value))
    up = math.hypot(math.log(above.high / above.value), math.log(below.value / below.low))
    return Interval(value, value * math.exp(-down), value * math.exp(up))


def _verdict(change: Interval, same: float, tolerance: float, *, smaller_is_better: bool = False) -> Verdict:
    """Whether the whole interval is beyond what is the same within the tolerance."""
    if change.low > same * (1 + tolerance):
        return "worse" if smaller_is_better else "better"
    if change.high < same / (1 + tolerance):
        return "better" if smaller_is_better else "worse"
    return "same"
