"""The student's stage."""

from __future__ import annotations

import json
from collections.abc import Iterator

from compress import __version__
from compress.data.domains import student_corpus
from compress.data.files import write_json
from compress.pipeline.stage import Stage, StageContext
from compress.pipeline.stages.student_inputs import TASK_STAGES, is_searched, student_text_kinds, task_settings
from compress.recipe import Recipe
from compress.recipe.sections import L2aOptions, TransformerOptions


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
        "table": corpus.summary and vars(corpus.summary),
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
    yield from (*task_settings(recipe), "student", "objective", "compress", "-compress.preset")
    yield "augmentation.method"
    if isinstance(recipe.augmentation, L2aOptions):
        yield "augmentation.selector"
    if isinstance(recipe.student, TransformerOptions):
        yield from (
            "teacher.model",
            "teacher.revision",
            "teacher.fine_tuned",
        )  # the model that its layers may be copied from
    if recipe.teacher.method == "meta":
        yield "meta.transfer"
    if is_searched(recipe):
        yield "search.inherit"


STUDENT = Stage(
    "student",
    make_student,
    settings=_student_settings,
    texts=student_text_kinds,
    after=(*TASK_STAGES, "linear", "search", "architecture"),
    shared=False,
)
