"""The untrained student of a recipe."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import PreTrainedModel

from compress.distil.task import StudentTask
from compress.recipe import Recipe
from compress.recipe.sections import BiLstmOptions, CnnOptions
from compress.search.student import derived_student
from compress.students.base import label_names
from compress.students.bilstm import BiLstmConfig, BiLstmStudent
from compress.students.embeddings import project_embeddings
from compress.students.transformer import make_transformer
from compress.teachers.finetune import load_classifier


def build_student(recipe: Recipe, task: StudentTask, teacher: PreTrainedModel, artifacts: Path) -> PreTrainedModel:
    """A student ready to be trained.

    :param artifacts: holds the stages `architecture` and `search`, for a cnn.
    """
    options = recipe.student
    torch.manual_seed(task.seed)
    if isinstance(options, CnnOptions):
        return derived_student(task, recipe, artifacts)
    if isinstance(options, BiLstmOptions):
        return _bilstm(task, options)
    return make_transformer(options, teacher, load_classifier(recipe.teacher, task.labels), task.labels, task.seed)


def _bilstm(task: StudentTask, options: BiLstmOptions) -> BiLstmStudent:
    config = BiLstmConfig(
        vocab_size=len(task.embeddings),
        width=options.width,
        hidden=options.hidden,
        pair=task.pair,
        dropout=options.dropout,
        pad_token_id=task.pad_token_id,
        **label_names(task.labels),
    )
    student = BiLstmStudent(config)
    student.embeddings.weight.data.copy_(project_embeddings(task.embeddings, task.train, options.width))
    return student
