"""The teacher's stage, and that of the linear model that it is compared with."""

from __future__ import annotations

from collections.abc import Iterator

from compress.data.domains import student_corpus
from compress.pipeline.stage import Stage, StageContext, Texts
from compress.recipe import Recipe


def make_teacher(context: StageContext) -> None:
    """Fine-tune the teacher, or take it over."""
    corpus = context.corpus  # before torch is imported: a mistake in the data shows at once
    from compress.teachers.finetune import make_teacher

    make_teacher(context.recipe, corpus, context.directory, context.scratch)


def _teacher_settings(recipe: Recipe) -> Iterator[str]:
    yield from ("seed", "teacher", "target.max_length", "domains.teacher")
    # One teacher of all domains serves the students of all domains: which student it is for is no input then.
    yield "domains.student" if recipe.domains.teacher == "own" else "domains.leave_out"
    if recipe.teacher.method == "meta":
        yield "meta.corruption"


def _teacher_texts(recipe: Recipe) -> Iterator[Texts]:
    yield Texts.LABELLED
    if "teacher" in recipe.source_learners:
        yield Texts.SOURCE


TEACHER = Stage("teacher", make_teacher, settings=_teacher_settings, texts=_teacher_texts)


def make_linear(context: StageContext) -> None:
    """Train the linear model that teacher and student are compared with."""
    corpus = student_corpus(context.recipe, context.corpus)
    from compress.baselines.linear import make_linear

    make_linear(corpus, context.directory)


LINEAR = Stage(
    "linear",
    make_linear,
    settings=lambda recipe: ("domains.student",),
    texts=lambda recipe: (Texts.LABELLED,),
    alone=lambda recipe: True,
)
