"""The stages that find the architecture of a cnn."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from compress.data.domains import student_corpus
from compress.data.files import fingerprint
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
from compress.recipe.sections import CnnOptions

if TYPE_CHECKING:
    from compress.distil.task import StudentTask
    from compress.search.latency import LatencyMeter

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
        *(f"-search.{name}" for name in ("trials", "trial_steps", "rounds", "strategy", "widths", "inherit", *_BOUNDS)),
    ),
    texts=student_text_kinds,
    after=TASK_STAGES,
    needed=lambda recipe: is_searched(recipe) and recipe.search.space == "paper",
    versions=("costs with channels last",),
)


def make_trials(context: StageContext) -> None:
    """Try architectures, each in a short training."""
    from compress.pipeline.student_task import student_task
    from compress.search.adabert import read_search
    from compress.search.space import PaperSpace, WideSpace
    from compress.search.student import read_supernet
    from compress.search.trials import run_trials

    task, recipe = student_task(context), context.recipe
    options = recipe.student
    assert isinstance(options, CnnOptions), "only a cnn is searched"
    two_inputs = task.pair and options.pair_inputs != "together"
    if recipe.search.space == "wide":
        meter = _meter(context, task)
        wide = WideSpace(options, two_inputs, recipe.search.widths, lambda one: meter.milliseconds(one, shown=False))
        run_trials(task, recipe, wide, None, context.directory, context.scratch)
        return
    search = context.result("search")
    alpha, depth, costs = read_search(search)
    paper = PaperSpace(options, two_inputs, alpha, depth, costs)
    supernet = read_supernet(task, options, search)
    run_trials(task, recipe, paper, supernet, context.directory, context.scratch)


def _meter(context: StageContext, task: StudentTask) -> LatencyMeter:
    """Times whole students on the task's texts. The times are kept in the user's cache: two runs of a recipe get the same ones."""
    from compress.data.assets import cache_directory
    from compress.search.cost import machine
    from compress.search.latency import LatencyMeter, StudentFactory

    assert context.latency is not None, "the wide space needs a way to measure"
    assert isinstance(context.recipe.student, CnnOptions), "only a cnn is searched"
    students = StudentFactory(context.recipe.student, len(task.embeddings), len(task.labels), task.pair)
    measure = partial(
        context.latency,
        tokenizer=context.result("teacher") / "tokenizer.json",
        recipe=context.recipe,
        corpus=student_corpus(context.recipe, context.corpus),
    )
    bench, student = context.recipe.bench, context.recipe.student
    key = fingerprint(
        machine(),
        context.task.fingerprint,
        (context.recipe.domains.student, context.recipe.target.max_length, context.recipe.seed),
        (bench.threads, bench.texts, students.vocabulary, student.pair_inputs),
    )
    return LatencyMeter(measure, students, cache_directory() / "latencies" / f"{key[:16]}.json")


TRIALS = Stage(
    "trials",
    make_trials,
    settings=lambda recipe: (
        *(*task_settings(recipe), *STEP_SETTINGS, "student", "objective"),
        *(f"search.{name}" for name in ("space", "trials", "trial_steps", "rounds", "strategy")),
        *(
            ("search.widths", "compress.warmup", "bench.threads", "bench.texts")
            if recipe.search.space == "wide"
            else ("-student.members", "search.beta")
        ),
    ),
    texts=student_text_kinds,
    after=(*TASK_STAGES, "search"),
    needed=lambda recipe: is_searched(recipe) and recipe.search.trials > 0,
    versions=("the loss is the distance to the teacher",),
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
        yield from (f"search.{name}" for name in (*_BOUNDS, "space", "trials", "beta"))
        if recipe.search.space == "paper":
            yield "search.cost"
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
