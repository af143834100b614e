"""The supernet of a task, and the student of a genotype with its first weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from compress.distil.task import StudentTask
from compress.recipe.sections import CnnOptions
from compress.search.derive import inherit
from compress.search.supernet import Supernet
from compress.students import CnnStudent, CnnStudentConfig
from compress.students.base import label_names
from compress.students.embeddings import project_for_members
from compress.students.genotype import Genotype, read_genotype

SUPERNET = "supernet.pt"


def make_supernet(task: StudentTask, options: CnnOptions, dropout: float, token_dropout: float) -> Supernet:
    """An untrained supernet for this task."""
    return Supernet(_config(task, options, dropout=dropout, token_dropout=token_dropout), options.max_cells)


def read_supernet(task: StudentTask, options: CnnOptions, search: Path) -> Supernet:
    """The trained supernet of a search.

    :param search: the directory of the stage `search`.
    """
    supernet = make_supernet(task, options, 0.0, 0.0)
    supernet.load_state_dict(torch.load(search / SUPERNET, weights_only=True))
    return supernet


def derived_student(
    task: StudentTask, options: CnnOptions, architecture: Path, search: Path | None = None
) -> CnnStudent:
    """The student of the chosen architecture, before its training.

    By default only its embeddings are initialised, from the teacher's. A student that continues the training of the search
    overfits sooner.

    :param architecture: the directory of that stage's result.
    :param search: the directory of the search whose supernet the student's weights come from; None: only the embeddings are
        initialised.
    """
    supernet = None if search is None else read_supernet(task, options, search)
    return make_student(task, options, read_genotype(architecture / "genotype.json"), supernet)


def make_student(task: StudentTask, options: CnnOptions, genotype: Genotype, supernet: Supernet | None) -> CnnStudent:
    """The student of a genotype, with its sizes where it has them.

    :param supernet: where the student's weights come from. Such a student has one member. With None, only the embeddings
        are initialised, from the teacher's.
    """
    options = sized(options, genotype)
    student = CnnStudent(
        _config(
            task,
            options,
            dropout=options.dropout,
            token_dropout=options.token_dropout,
            genotype=genotype.dump(),
            members=options.members if supernet is None else 1,
        )
    )
    if supernet is None:
        table = project_for_members(task.embeddings, task.train, options.width, options.members)
        student.embeddings.table.weight.data.copy_(table)
    else:
        inherit(student, supernet)
    return student


def sized(options: CnnOptions, genotype: Genotype) -> CnnOptions:
    """The options with the genotype's sizes in the place of the recipe's, where it has them."""
    return options.model_copy(update=genotype.sizes)


def _config(task: StudentTask, options: CnnOptions, **more: Any) -> CnnStudentConfig:
    values: dict[str, Any] = {**label_names(task.labels), **more}
    return CnnStudentConfig(
        vocab_size=len(task.embeddings),
        width=options.width,
        halvings=options.halvings,
        pair=task.pair,
        pair_inputs=options.pair_inputs,
        pad_token_id=task.train.pad_token_id,
        **values,
    )
