"""What the stages that train students have in common: the settings that they read and the texts that they learn."""

from __future__ import annotations

from collections.abc import Iterator

from compress.pipeline.stage import Texts
from compress.recipe import Recipe

# The stages whose results `student_task` reads.
TASK_STAGES = ("teacher", "augmented", "teacher_outputs", "transfer_set", "transfer_outputs")
# What a search and its trials take from the student's own training.
STEP_SETTINGS = tuple(f"compress.{name}" for name in ("batch_size", "learning_rate", "weight_decay", "max_grad_norm"))


def task_settings(recipe: Recipe) -> Iterator[str]:
    """The settings that `student_task` reads."""
    yield from ("seed", "target.max_length", "domains.student", "teacher.method")
    if recipe.transfer.any:
        yield "transfer.share"


def student_text_kinds(recipe: Recipe) -> Iterator[Texts]:
    """Of the stages that learn what the student learns."""
    yield Texts.UNLABELLED if recipe.target.distil_unlabelled else Texts.LABELLED
    if "student" in recipe.source_learners:
        yield Texts.SOURCE


def latency_settings(recipe: Recipe) -> Iterator[str]:
    """What a stage reads that keeps to the target latency."""
    yield "budget.target_latency_ms"
    if recipe.budget.target_latency_ms is not None:
        yield from ("bench.threads", "bench.texts")


def is_searched(recipe: Recipe) -> bool:
    """Whether the student's architecture is searched."""
    return getattr(recipe.student, "architecture", None) == "searched"
