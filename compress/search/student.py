"""The network of a genotype, with the weights that it starts from."""

from __future__ import annotations

from pathlib import Path

import torch

from compress.distil.task import StudentTask
from compress.recipe import Recipe
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


def derived_student(task: StudentTask, recipe: Recipe, artifacts: Path) -> CnnStudent:
    """The network of the chosen architecture, before its training.

    It starts from the teacher's embeddings alone, unless `search.inherit`: an architecture that had a search's training before
    its own learns the training texts by heart the sooner.

    :param artifacts: holds the stage `architecture` and, to inherit from, `search`.
    """
    options = recipe.student
    assert isinstance(options, CnnOptions), "only a cnn has an architecture"
    genotype = read_genotype(artifacts / "architecture" / "genotype.json")
    inherit = options.architecture == "searched" and recipe.search.inherit
    supernet = read_supernet(task, options, artifacts / "search") if inherit else None
    return make_student(task, options, genotype, supernet)


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
        pad_token_id=task.pad_token_id,
        **label_names(task.labels),
    )
    student = CnnStudent(config)
    if supernet is None:
        table = project_embeddings(task.embeddings, task.train, options.width)
        student.embeddings.table.weight.data.copy_(table)
    else:
        inherit(student, supernet)
    return student
