"""The stages that find the architecture of a cnn."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from compress.data.domains import student_corpus
from compress.pipeline.stage import Stage, StageContext, Texts
from compress.pipeline.stages.student_inputs import (
    STEP_SETTINGS,
    TASK_STAGES,
    is_searched,
    latency_settings,
    student_text_kinds,
    task_settings,
)
from compress.recipe import Recipe

_BOUNDS = ("max_cost", "max_parameters")  # of the search


def make_search(context: StageContext) -> None:
    """Search an architecture."""
    from compress.pipeline.student_task import student_task
    from compress.search.adabert import search_architecture

    search_architecture(student_task(context), context.recipe, context.directory, context.scratch)


SEARCH = Stage(
    "search",
    make_search,
    settings=lambda recipe: (
        *(*task_settings(recipe), *STEP_SETTINGS, "student", "-student.members", "objective", "search"),
        # What only the trials, the choice or the student's training use does not outdate the search.
        *(f"-search.{name}" for name in ("trials", "trial_steps", "inherit", *_BOUNDS)),
    ),
    texts=student_text_kinds,
    after=TASK_STAGES,
    needed=is_searched,
    versions=("costs with channels last",),
)


def make_trials(context: StageContext) -> None:
    """Try architectures, each in a short training."""
    from compress.pipeline.student_task import student_task
    from compress.search.trials import run_trials

    run_trials(student_task(context), context.recipe, context.result("search"), context.directory, context.scratch)


TRIALS = Stage(
    "trials",
    make_trials,
    settings=lambda recipe: (
        *(
            *task_settings(recipe),
            *STEP_SETTINGS,
            "student",
            "-student.members",
            "objective",
        ),  # a trial is of one member
        *(f"search.{name}" for name in ("trials", "trial_steps", "beta")),
    ),
    texts=student_text_kinds,
    after=(*TASK_STAGES, "search"),
    needed=lambda recipe: is_searched(recipe) and recipe.search.trials > 0,
)


def make_architecture(context: StageContext) -> None:
    """Choose the student's architecture within the bounds."""
    corpus = context.corpus
    if context.declares("domains.student"):
        corpus = student_corpus(context.recipe, corpus)
    from transformers import AutoConfig

    from compress.search.architecture import choose_architecture
    from compress.teachers.finetune import open_encoder

    recipe, teacher = context.recipe, context.result("teacher")
    encoder = open_encoder(teacher, recipe.target.max_length)
    measure = None
    if context.latency is not None:
        tokenizer = teacher / "tokenizer.json"
        # Without a target, the times are told and decide nothing. So the record does not declare what they depend on.
        timed = recipe if context.declares("bench.threads") else context.task.recipe
        measure = partial(context.latency, tokenizer=tokenizer, recipe=timed, corpus=corpus)
    choose_architecture(
        recipe,
        corpus,
        encoder,
        AutoConfig.from_pretrained(teacher).vocab_size,
        context.results,
        context.directory,
        measure,
        title=context.name,
    )


def _architecture_settings(recipe: Recipe) -> Iterator[str]:
    yield from ("seed", "target.max_length", "student")
    if recipe.bounds_architecture:
        yield from (f"search.{name}" for name in (*_BOUNDS, "trials", "beta", "cost"))
        if recipe.domains.student is not None:
            yield "domains.student"  # on whose texts operations and students are timed
    if is_searched(recipe):
        yield from latency_settings(recipe)


ARCHITECTURE = Stage(
    "architecture",
    make_architecture,
    settings=_architecture_settings,
    texts=lambda recipe: (Texts.LABELLED,),
    after=("teacher", "search", "trials"),
    needed=lambda recipe: recipe.student.kind == "cnn",
    alone=lambda recipe: True,  # other processes would disturb its timings
)
