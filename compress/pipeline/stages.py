"""The stages in order, each as a record; to add a stage or an input of one, change its record here.

    teacher → language_model → augmented → teacher_outputs → search → trials → architecture → student

A record's function imports what it needs when it runs: keys are computed without torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial

from compress import __version__, processes
from compress.data.domains import student_corpus
from compress.data.files import write_json
from compress.pipeline.stage import Stage, StageContext, Texts
from compress.recipe import Recipe
from compress.recipe.sections import L2aOptions, MaskedLmOptions, SamplingOptions, TransformerOptions


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
    "linear", make_linear, settings=lambda recipe: ("domains.student",), texts=lambda recipe: (Texts.LABELLED,)
)


def make_language_model(context: StageContext) -> None:
    """Train the masked language model behind an augmentation; labels and seeds of the recipe play no part."""
    corpus = context.corpus
    from compress.augment.stage import make_language_model

    make_language_model(context.recipe, corpus, context.directory, context.scratch)


def _language_model_texts(recipe: Recipe) -> Iterator[Texts]:
    yield Texts.WITHOUT_LABELS
    if "language_model" in recipe.source_learners:
        yield Texts.SOURCE


LANGUAGE_MODEL = Stage(
    "language_model",
    make_language_model,
    # Not the method: one language model serves all of them.
    settings=lambda recipe: (
        "teacher.model",
        "target.max_length",
        *(f"augmentation.{name}" for name in MaskedLmOptions.model_fields),
        "-augmentation.method",
    ),
    texts=_language_model_texts,
    needed=lambda recipe: isinstance(recipe.augmentation, MaskedLmOptions),
)


def make_augmented(context: StageContext) -> None:
    """Write the augmented texts."""
    corpus = student_corpus(context.recipe, context.corpus)
    from compress.augment.stage import make_augmented

    make_augmented(context.recipe, corpus, context.results.get("language_model"), context.directory, context.scratch)


def _augmented_texts(recipe: Recipe) -> Iterator[Texts]:
    yield Texts.LABELLED
    if isinstance(recipe.augmentation, L2aOptions) and recipe.source is not None:
        yield Texts.SOURCE  # samples start from these too


def _augmented_settings(recipe: Recipe) -> Iterator[str]:
    yield from (
        "seed",
        "augmentation",
        "-augmentation.selector",
        "domains.student",
    )  # a selector is the student's matter
    if isinstance(recipe.augmentation, SamplingOptions):
        yield "teacher.model"  # for its tokenizer's mask token


AUGMENTED = Stage(
    "augmented",
    make_augmented,
    settings=_augmented_settings,
    texts=_augmented_texts,
    after=("language_model",),
    needed=lambda recipe: recipe.augmentation.method != "none",
)


def make_teacher_outputs(context: StageContext) -> None:
    """Ask the frozen teacher about the student's training texts."""
    from compress.pipeline.student_task import student_texts
    from compress.teachers.finetune import open_encoder
    from compress.teachers.outputs import make_teacher_outputs

    recipe, teacher = context.recipe, context.result("teacher")
    texts = student_texts(context, open_encoder(teacher, recipe.target.max_length))
    probes = recipe.student.kind == "cnn"
    make_teacher_outputs(teacher, texts, context.directory, probes=probes, weights=recipe.weights_examples)


def _student_texts(recipe: Recipe) -> Iterator[Texts]:
    """Of the stages that learn what the student learns."""
    yield Texts.UNLABELLED if recipe.target.distil_unlabelled else Texts.LABELLED
    if "student" in recipe.source_learners:
        yield Texts.SOURCE


TEACHER_OUTPUTS = Stage(
    "teacher_outputs",
    make_teacher_outputs,
    settings=lambda recipe: (
        *("target.max_length", "domains.student", "student.kind", "teacher.method"),
        *(["meta.expertise"] if recipe.teacher.method == "meta" else []),
    ),
    texts=_student_texts,
    after=("teacher", "augmented"),
    needed=lambda recipe: recipe.objective.method != "none" or recipe.student.kind == "cnn",
)


def make_transfer_set(context: StageContext) -> None:
    """Choose the texts of the transfer set."""
    corpus = student_corpus(context.recipe, context.corpus)
    from compress.transfer.stage import make_transfer_set

    make_transfer_set(context.recipe, corpus, context.directory)


TRANSFER_SET = Stage(
    "transfer_set",
    make_transfer_set,
    settings=lambda recipe: (
        *("seed", "domains.student"),
        *(f"transfer.{name}" for name in ("bank", "texts", "select", "joined")),
    ),
    texts=lambda recipe: (Texts.LABELLED,),
    needed=lambda recipe: recipe.transfer.any,
)


def make_transfer_outputs(context: StageContext) -> None:
    """Ask the frozen teacher about the transfer set."""
    from compress.data.batches import encode_split
    from compress.teachers.finetune import open_encoder
    from compress.teachers.outputs import make_teacher_outputs
    from compress.transfer.stage import load_transfer_set

    teacher = context.result("teacher")
    encoder = open_encoder(teacher, context.recipe.target.max_length)
    texts = encode_split(load_transfer_set(context.result("transfer_set")), encoder)
    make_teacher_outputs(teacher, texts, context.directory, probes=False)


TRANSFER_OUTPUTS = Stage(
    "transfer_outputs",
    make_transfer_outputs,
    settings=lambda recipe: ("target.max_length",),
    after=("teacher", "transfer_set"),
    needed=lambda recipe: recipe.transfer.any,
)

# What `student_task` reads, and what a training of a cnn takes from the student's own training.
_TASK_SETTINGS = ("seed", "target.max_length", "domains.student", "teacher.method")
_BOUNDS = ("max_cost", "max_parameters", "target_latency_ms")  # of the search
_STEP_SETTINGS = tuple(f"compress.{name}" for name in ("batch_size", "learning_rate", "weight_decay", "max_grad_norm"))


def make_search(context: StageContext) -> None:
    """Search an architecture."""
    from compress.pipeline.student_task import student_task
    from compress.search.adabert import search_architecture

    search_architecture(student_task(context), context.recipe, context.directory, context.scratch)


def _is_searched(recipe: Recipe) -> bool:
    return getattr(recipe.student, "architecture", None) == "searched"


SEARCH = Stage(
    "search",
    make_search,
    settings=lambda recipe: (
        *(*_TASK_SETTINGS, *_STEP_SETTINGS, "student", "objective", "search"),
        # What only the trials, the choice or the student's training use does not outdate the search.
        *(f"-search.{name}" for name in ("trials", "trial_steps", "inherit", *_BOUNDS)),
    ),
    texts=_student_texts,
    after=("teacher", "augmented", "teacher_outputs"),
    needed=_is_searched,
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
        *(*_TASK_SETTINGS, *_STEP_SETTINGS, "student", "objective"),
        *(f"search.{name}" for name in ("trials", "trial_steps", "beta")),
    ),
    texts=_student_texts,
    after=("teacher", "augmented", "teacher_outputs", "search"),
    needed=lambda recipe: _is_searched(recipe) and recipe.search.trials > 0,
)


def make_architecture(context: StageContext) -> None:
    """Choose the student's architecture within the bounds."""
    if not processes.is_first():
        return  # other processes would disturb its timings
    corpus = context.corpus
    from transformers import AutoConfig

    from compress.search.architecture import choose_architecture
    from compress.teachers.finetune import open_encoder

    recipe, teacher = context.recipe, context.result("teacher")
    encoder = open_encoder(teacher, recipe.target.max_length)
    measure = None
    if context.latency is not None:
        tokenizer = teacher / "tokenizer.json"
        measure = partial(context.latency, tokenizer=tokenizer, recipe=recipe, corpus=corpus)
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
        if recipe.search.target_latency_ms is not None:
            yield from ("bench.threads", "bench.texts")


ARCHITECTURE = Stage(
    "architecture",
    make_architecture,
    settings=_architecture_settings,
    texts=lambda recipe: (Texts.LABELLED,),
    after=("teacher", "search", "trials"),
    needed=lambda recipe: recipe.student.kind == "cnn",
)


def make_student(context: StageContext) -> None:
    """Train the student; writes a checkpoint with its tokenizer and `card.json`."""
    from compress.pipeline.build_student import build_student, train_student_of
    from compress.pipeline.student_task import student_task
    from compress.teachers.finetune import open_teacher, save_tokenizer_copy

    task = student_task(context)
    teacher, _ = open_teacher(context.result("teacher"), context.recipe.target.max_length)
    student = build_student(context, task, teacher)
    history = train_student_of(context, task, student, teacher)
    student.save_pretrained(context.directory)
    save_tokenizer_copy(context.result("teacher"), context.directory)
    _write_card(context, sum(p.numel() for p in student.parameters()), history)


def _write_card(context: StageContext, parameters: int, history: list[dict[str, float]]) -> None:
    """Write `card.json`: where the student comes from."""
    from compress.baselines.linear import read_linear
    from compress.teachers.finetune import teacher_card

    corpus = student_corpus(context.recipe, context.corpus)
    card = {
        "recipe": context.recipe_as_written,
        "data": context.task.fingerprint,
        "contamination": [vars(found) for found in corpus.contamination],
        "sizes": {name: len(split) for name, split in corpus.splits.items()},
        "labels": corpus.labels,
        "pair": corpus.pair,
        "report_split": corpus.report_split,
        "teacher": teacher_card(context.result("teacher")),
        "parameters": parameters,
        "seed": context.recipe.seed,
        "linear": read_linear(context.result("linear")),
        "version": __version__,
        "history": history,
    }
    if "architecture" in context.results:
        found = json.loads((context.result("architecture") / "genotype.json").read_text(encoding="utf-8"))
        card["genotype"] = found["genotype"]
    write_json(context.directory / "card.json", card)


def _student_settings(recipe: Recipe) -> Iterator[str]:
    yield from (*_TASK_SETTINGS, "student", "objective", "compress", "-compress.preset")
    yield "augmentation.method"
    if isinstance(recipe.augmentation, L2aOptions):
        yield "augmentation.selector"
    if isinstance(recipe.student, TransformerOptions):
        yield from ("teacher.model", "teacher.fine_tuned")  # the model that its layers may be copied from
    if recipe.teacher.method == "meta":
        yield "meta.transfer"
    if _is_searched(recipe):
        yield "search.inherit"
    if recipe.transfer.any:
        yield "transfer.share"


STUDENT = Stage(
    "student",
    make_student,
    settings=_student_settings,
    texts=_student_texts,
    after=(
        "teacher",
        "linear",
        "augmented",
        "teacher_outputs",
        "transfer_set",
        "transfer_outputs",
        "search",
        "architecture",
    ),
    shared=False,
)

STAGES = (
    *(TEACHER, LINEAR, LANGUAGE_MODEL, AUGMENTED, TEACHER_OUTPUTS, SEARCH, TRIALS, ARCHITECTURE),
    *(TRANSFER_SET, TRANSFER_OUTPUTS, STUDENT),
)


def stages_of(recipe: Recipe) -> list[Stage]:
    """The stages that this recipe needs, in order."""
    return [stage for stage in STAGES if stage.needed(recipe)]


def stage_keys(recipe: Recipe) -> dict[str, str]:
    """The key of each stage of a recipe, in order: what its result is made from. Imports no torch.

    :raises UserError: a file that the recipe names is missing.
    """
    keys: dict[str, str] = {}
    for stage in stages_of(recipe):
        keys[stage.name] = stage.key(recipe, keys)
    return keys
