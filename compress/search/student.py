"""The network of a genotype, with the weights that it starts from."""

from __future__ import annotations

from pathlib import Path

import torch

from compress.distil.task import StudentTask
from compress.recipe.sections import CnnOptions
from compress.search.derive import inherit
from compress.search.supernet import Supernet
from compress.students import CnnStudent, CnnStudentConfig
from compress.students.base import label_names
from compress.students.embeddings import project_embeddings
from compress.students.genotype import Genotype, read_genotype

SUPERNET = "supernet.pt"


def make_supernet(task: StudentTask, options: CnnOptions, dropout: float, token_dropout: float) -> Supernet:
    """The supernet of a task, untrained."""
    vocabulary, classes = len(task.embeddings), len(task.labels)
    return Supernet(
        vocabulary, options.width, options.max_cells, classes, task.pair, options.pair_inputs, dropout, token_dropout
    )


def read_supernet(task: StudentTask, options: CnnOptions, search: Path) -> Supernet:
    """The supernet that a search has trained."""
    supernet = make_supernet(task, options, 0.0, 0.0)
    supernet.load_state_dict(torch.load(search / SUPERNET, weights_only=True))
    return supernet


def derived_student(
    task: StudentTask, options: CnnOptions, architecture: Path, search: Path | None = None
) -> CnnStudent:
    """The network of the chosen architecture, before its training.

    It starts from the teacher's word embeddings alone. With the weights of a search it has been trained longer, and learns
    the training texts by heart sooner.

    :param architecture: directory of the stage's result.
    :param search: directory of the search whose weights it starts from.
    """
    genotype = read_genotype(architecture / "genotype.json")
    return make_student(task, options, genotype, read_supernet(task, options, search) if search else None)


def make_student(task: StudentTask, options: CnnOptions, genotype: Genotype, supernet: Supernet | None) -> CnnStudent:
    """The network of a genotype, with the supernet's weights or else the teacher's embeddings."""
    config = CnnStudentConfig(
        vocab_size=len(task.embeddings),
        width=options.width,
        genotype=genotype.model_dump(mode="json"),
        pair=task.pair,
        pair_inputs=options.pair_inputs,
        dropout=options.dropout,
        token_dropout=options.token_dropout,
        pad_token_id=task.train.pad_token_id,
        **label_names(task.labels),
    )
    student = CnnStudent(config)
    if supernet is None:
        table = project_embeddings(task.embeddings, task.train, options.width)
        student.embeddings.table.weight.data.copy_(table)
    else:
        inherit(student, supernet)
    return student
