"""The untrained student of a recipe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from compress.batches import EncodedSplit
from compress.options import BiLstmOptions, CnnOptions
from compress.recipe import Recipe
from compress.students.bilstm import BiLstmConfig, BiLstmStudent
from compress.students.transformer import make_transformer
from compress.task import StudentTask
from compress.teachers.finetune import load_classifier


def build_student(recipe: Recipe, task: StudentTask, teacher: PreTrainedModel, search: Path) -> PreTrainedModel:
    """A student ready to be trained.

    :param search: result of the search, for a searched student.
    """
    options = recipe.student
    torch.manual_seed(task.seed)
    if isinstance(options, CnnOptions):
        from compress.search.adabert import derived_student

        return derived_student(task, options, search)
    if isinstance(options, BiLstmOptions):
        return _bilstm(task, options)
    return make_transformer(options, teacher, load_classifier(recipe.teacher, task.labels), task.labels, task.seed)


def label_names(labels: list[str]) -> dict[str, dict[int, str] | dict[str, int]]:
    """The labels as a Hugging Face configuration wants them."""
    return {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}


def project_embeddings(table: Tensor, train: EncodedSplit, width: int) -> Tensor:
    """The teacher's word embeddings (V, d) on their `width` principal components, weighted by how often a token occurs.

    The projection is folded in from the start: the student stores and trains V × width.
    """
    counts = torch.ones(len(table), dtype=torch.float64)  # a token that training never shows still has a place
    ids = torch.from_numpy(np.concatenate([e.input_ids for e in train.encoded]))
    counts += torch.bincount(ids, minlength=len(table))
    share = (counts / counts.sum())[:, None]
    centred = table.double() - (share * table.double()).sum(dim=0)
    _, vectors = torch.linalg.eigh((centred * share).T @ centred)
    projected = centred @ vectors[:, -width:].flip(1)
    if projected.shape[1] < width:  # a teacher narrower than the student
        projected = torch.nn.functional.pad(projected, (0, width - projected.shape[1]))
    return (projected / projected.std() * 0.5).float()


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
