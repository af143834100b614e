"""The stages of the teacher, of its tutor, and of the linear model that it is compared with."""

from __future__ import annotations

from collections.abc import Iterator

from compress.data.domains import student_corpus
from compress.pipeline.stage import Stage, StageContext, Texts
from compress.recipe import Recipe


def make_tutor(context: StageContext) -> None:
    """Fine-tune the tutor as a teacher, or take it over."""
    corpus = context.corpus
    from compress.teachers.finetune import make_teacher

    make_teacher(context.recipe.of_tutor(), corpus, context.directory, context.scratch)


TUTOR = Stage(
    "tutor",
    make_tutor,
    settings=lambda recipe: (
        "seed",
        "tutor",
        "-tutor.texts",
        "target.max_length",
        "domains.teacher",
        "domains.leave_out",
    ),
    texts=lambda recipe: (Texts.LABELLED,),
    needed=lambda recipe: recipe.has_tutor,
)


def make_tutor_outputs(context: StageContext) -> None:
    """Ask the tutor about what the teacher is going to learn from: all training texts, and some of the transfer set."""
    corpus, recipe = context.corpus, context.recipe
    from compress.teachers.finetune import open_encoder
    from compress.teachers.judge import Judges
    from compress.teachers.tutor import make_tutor_outputs, sample_transfer_set

    tutor, length = context.result("tutor"), recipe.target.max_length
    own, dev = corpus.splits["train"], corpus.splits["dev"]
    further = own.take([])
    if (transfer_set := context.results.get("transfer_set")) is not None:
        further = sample_transfer_set(transfer_set, recipe.tutor.texts, recipe.seed)
    judges = Judges(tutor, context.scratch, context.open_int8)
    make_tutor_outputs(judges, open_encoder(tutor, length), own, further, dev, context.directory)


TUTOR_OUTPUTS = Stage(
    "tutor_outputs",
    make_tutor_outputs,
    settings=lambda recipe: ("seed", "tutor.texts", "target.max_length"),
    texts=lambda recipe: (Texts.LABELLED,),
    after=("tutor", "transfer_set"),
    needed=lambda recipe: recipe.has_tutor,
)


def make_teacher(context: StageContext) -> None:
    """Fine-tune the teacher, or take it over."""
    corpus = context.corpus  # before torch is imported: a mistake in the data shows at once
    from compress.teachers.finetune import make_teacher

    make_teacher(context.recipe, corpus, context.directory, context.scratch, context.results.get("tutor_outputs"))


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


TEACHER = Stage("teacher", make_teacher, settings=_teacher_settings, texts=_teacher_texts, after=("tutor_outputs",))


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
