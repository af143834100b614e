"""The stages that make texts for the student, and that ask the teacher about all of its texts."""

from __future__ import annotations

from collections.abc import Iterator

from compress.data.domains import student_corpus
from compress.pipeline.stage import Stage, StageContext, Texts
from compress.pipeline.stages.student_inputs import student_text_kinds
from compress.recipe import Recipe
from compress.recipe.sections import CbertOptions, L2aOptions, MaskedLmOptions, SamplingOptions


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
        "teacher.revision",
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
        yield from ("teacher.model", "teacher.revision")  # for its tokenizer's mask token


AUGMENTED = Stage(
    "augmented",
    make_augmented,
    settings=_augmented_settings,
    texts=_augmented_texts,
    after=("language_model",),
    needed=lambda recipe: recipe.augmentation.method != "none",
    alone=lambda recipe: not isinstance(recipe.augmentation, CbertOptions),  # which trains a language model here
)


def make_teacher_outputs(context: StageContext) -> None:
    """Ask the frozen teacher about the student's training texts."""
    from compress.data.batches import encode_split
    from compress.data.teacher_outputs import save_token_vectors
    from compress.pipeline.student_task import student_texts
    from compress.students.embeddings import principal_components
    from compress.teachers.finetune import open_teacher
    from compress.teachers.outputs import make_teacher_outputs
    from compress.teachers.token_vectors import token_vectors

    recipe, teacher = context.recipe, context.result("teacher")
    model, encoder = open_teacher(teacher, recipe.target.max_length)
    texts = student_texts(context, encoder)
    dev = encode_split(student_corpus(recipe, context.corpus).splits["dev"], encoder)
    probes = recipe.student.kind == "cnn"
    make_teacher_outputs(teacher, texts, context.directory, probes=probes, weights=recipe.weights_examples, dev=dev)
    if recipe.student.kind != "transformer":
        vectors = principal_components(token_vectors(model, encoder, texts), texts, model.config.hidden_size)
        save_token_vectors(vectors, context.directory)


TEACHER_OUTPUTS = Stage(
    "teacher_outputs",
    make_teacher_outputs,
    settings=lambda recipe: (
        *("target.max_length", "domains.student", "student.kind", "teacher.method"),
        *(["meta.expertise"] if recipe.teacher.method == "meta" else []),
    ),
    texts=student_text_kinds,
    after=("teacher", "augmented"),
    needed=lambda recipe: recipe.objective.method != "none" or recipe.student.kind == "cnn",
    versions=("with dev", "with token vectors"),
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
        *(f"transfer.{name}" for name in ("bank", "texts", "select", "sampled", "joined", "replaced")),
        *(f"teacher.{name}" for name in ("model", "revision", "fine_tuned") if recipe.transfer.replaced),
    ),
    texts=lambda recipe: (Texts.LABELLED,),
    needed=lambda recipe: recipe.transfer.any,
    alone=lambda recipe: True,
)


def make_transfer_outputs(context: StageContext) -> None:
    """Ask the frozen teacher about the transfer set."""
    from compress.data.batches import SoftTargets, encode_split
    from compress.data.teacher_outputs import TeacherOutputs
    from compress.pipeline.student_task import transfer_texts
    from compress.teachers.finetune import open_encoder
    from compress.teachers.judge import Judges, judge_texts
    from compress.teachers.outputs import make_teacher_outputs

    recipe, teacher = context.recipe, context.result("teacher")
    corpus = student_corpus(recipe, context.corpus)
    encoder = open_encoder(teacher, recipe.target.max_length)
    texts = transfer_texts(context, encoder)
    if recipe.weights_examples:  # they follow from the teacher's hidden states, which only the model itself has
        make_teacher_outputs(teacher, texts, context.directory, probes=False, weights=True)
        return
    judges = Judges(teacher, context.scratch, context.open_int8)
    dev = encode_split(corpus.splits["dev"], encoder)
    logits = judge_texts(judges, recipe.transfer.judge, texts, dev)
    TeacherOutputs(texts.fingerprint, SoftTargets(logits)).save(context.directory)


TRANSFER_OUTPUTS = Stage(
    "transfer_outputs",
    make_transfer_outputs,
    settings=lambda recipe: (
        *("target.max_length", "domains.student", "teacher.method", "transfer.judge"),
        *(["meta.expertise"] if recipe.teacher.method == "meta" else []),
    ),
    texts=lambda recipe: (Texts.LABELLED,),  # dev, on which INT8 is compared with fp32
    after=("teacher", "transfer_set"),
    needed=lambda recipe: recipe.transfer.any,
)
