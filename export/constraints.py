"""Whether a student is worth serving: what the recipe's budget and the linear model say."""

from __future__ import annotations

from dataclasses import dataclass

from compress.recipe.sections import BudgetOptions
from export.accuracy import show_accuracy, standard_error

# Two measurements of one model differ by some percent, and the search takes a student that is just fast enough.
TIMING_TOLERANCE = 1.1
CURES = {
    "min_teacher_share": "more texts (data.unlabelled, transfer.texts), a longer training (compress.steps) or a larger student "
    "(student.members, student.width)",
    "target_latency_ms": "a smaller student (student.width, student.max_cells), shorter texts (data.max_length) or more threads "
    "(bench.threads)",
    "max_bytes": "narrower word embeddings (student.width), which are most of a small student",
}


@dataclass(frozen=True)
class DevResult:
    """What the default model of a bundle is worth and what it costs. Accuracies are fractions of 1, on dev."""

    accuracy: float
    teacher: float
    linear: float
    texts: int  # in dev
    file_bytes: int
    latency_ms: float | None  # None: not measured, since no constraint needs it

    @property
    def share(self) -> float:
        """Its accuracy as a share of the teacher's."""
        return self.accuracy / self.teacher

    @property
    def error(self) -> float:
        """The standard error of its accuracy."""
        return standard_error(self.accuracy, self.texts)

    @property
    def shown(self) -> str:
        """Its accuracy in words."""
        return show_accuracy(self.accuracy, self.error)

    @property
    def below_linear(self) -> bool:
        """Whether it is more than a standard error less accurate than the linear model."""
        return self.linear - self.accuracy > self.error


def unmet_constraints(budget: BudgetOptions, result: DevResult, tolerance: float = 1.0) -> dict[str, str]:
    """What a student lacks: by the setting of the constraint, its figure and the constraint.

    :param tolerance: the factor by which the latency may be too high.
    """
    unmet: dict[str, str] = {}
    wanted, ms, limit = budget.min_teacher_share, result.latency_ms, budget.target_latency_ms
    if wanted is not None and result.share < wanted:
        unmet["min_teacher_share"] = (
            f"its {result.shown} on dev are {result.share:.1%} of the teacher's {result.teacher:.2%}, "
            f"and budget.min_teacher_share is {wanted:g}"
        )
    if limit is not None and ms is not None and ms > limit * tolerance:
        unmet["target_latency_ms"] = f"it takes {ms:.3g} ms, and budget.target_latency_ms is {limit:g}"
    if budget.max_bytes is not None and result.file_bytes > budget.max_bytes:
        unmet["max_bytes"] = f"its file has {result.file_bytes:,} bytes, and budget.max_bytes is {budget.max_bytes:,}"
    return unmet
