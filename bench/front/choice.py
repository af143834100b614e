"""Which student a recipe's budget takes; or what is missing, and what would help."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bench.front.results import Student
from compress.recipe.sections import BudgetOptions
from export.constraints import CURES, unmet_constraints

NO_CONSTRAINTS = (
    "No student is taken, since the recipe has no constraints: set budget.min_teacher_share (and the fastest student that is so good is "
    "taken), budget.target_latency_ms or budget.max_bytes (and the most accurate one within them is)."
)


def mark_front(students: Sequence[Student]) -> list[Student]:
    """The students, the fastest first. `on_front` marks the Pareto front of latency and reported accuracy."""
    marked, best = [], -1.0
    for student in sorted(students, key=lambda s: (s.latency_ms, -s.accuracy)):
        marked.append(replace(student, on_front=student.accuracy > best))
        best = max(best, student.accuracy)
    return marked


def choose(students: Sequence[Student], budget: BudgetOptions) -> Student | None:
    """The student that the budget takes, judged on dev; None if no student meets the constraints, or there are none.

    With a constraint on the accuracy it is the fastest one that meets all constraints, else the most accurate one.
    A student that is clearly below the linear model is never taken.
    """
    meeting = [s for s in students if not unmet_constraints(budget, s.dev) and not s.dev.below_linear]
    if not meeting or budget == BudgetOptions():
        return None
    if budget.min_teacher_share is not None:
        return min(meeting, key=lambda s: (s.latency_ms, -s.dev.accuracy))
    return max(meeting, key=lambda s: (s.dev.accuracy, -s.latency_ms))


def verdict(students: Sequence[Student], budget: BudgetOptions) -> str:
    """In words: which student is taken and why, or what is missing and what would help."""
    if budget == BudgetOptions():
        return NO_CONSTRAINTS
    if taken := choose(students, budget):
        rule = "fastest" if budget.min_teacher_share is not None else "most accurate"
        return f"Taken: {_figures(taken)}. It is the {rule} student on dev that meets {_constraints(budget)}."
    return f"No student meets {_constraints(budget)}. {_what_is_missing(students, budget)}"


def _what_is_missing(students: Sequence[Student], budget: BudgetOptions) -> str:
    sound = [s for s in students if not s.dev.below_linear]
    if not sound:
        best = max(students, key=lambda s: s.dev.accuracy)
        return (
            f"The most accurate one is clearly below the linear model on dev: {_figures(best)}. "
            f"What may help: {CURES['min_teacher_share']}."
        )
    limits = budget.model_copy(update={"min_teacher_share": None})
    within = [s for s in sound if not unmet_constraints(limits, s.dev)]
    parts: list[str] = []
    if within:
        best = max(within, key=lambda s: s.dev.accuracy)
        parts.append(f"The best within the limits: {_figures(best)}.")
        lacking = ["min_teacher_share"]
    else:
        fastest, smallest = min(sound, key=lambda s: s.latency_ms), min(sound, key=lambda s: s.file_bytes)
        found = [{**unmet_constraints(limits, s.dev)} for s in (fastest, smallest)]
        lacking = [
            setting for setting in ("target_latency_ms", "max_bytes") if any(setting in unmet for unmet in found)
        ]
        parts.append(f"None keeps to the limits. The fastest: {_figures(fastest)}. The smallest: {_figures(smallest)}.")
    only_share = BudgetOptions(min_teacher_share=budget.min_teacher_share)
    good_enough = [s for s in sound if not unmet_constraints(only_share, s.dev)]
    parts.append(f"What may help: {'; '.join(CURES[setting] for setting in lacking)}.")
    if good_enough and limits != BudgetOptions():
        cheapest = min(good_enough, key=lambda s: s.latency_ms)
        parts.append(f"A larger budget would do too: {_figures(cheapest)}.")
    return " ".join(parts)


def _figures(student: Student) -> str:
    dev = student.dev
    return (
        f"{student.title}, {dev.accuracy:.2%} on dev, {dev.share:.1%} of the teacher's {dev.teacher:.2%}, "
        f"{student.latency_ms:.3g} ms, {student.file_bytes:,} bytes"
    )


def _constraints(budget: BudgetOptions) -> str:
    return ", ".join(f"budget.{name} = {value:g}" for name, value in budget.model_dump(exclude_none=True).items())
