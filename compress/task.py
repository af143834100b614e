"""What a student learns from, as tensors, and what it starts from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from compress.batches import EncodedSplit


@dataclass(frozen=True)
class StudentTask:
    """Texts, the teacher's outputs on them, and the words' first meaning.

    `train.targets` has `logits` (N, C), the teacher's, and for a searched student `probes` (N, J, C), one probe for each
    of its layers. The label of an augmented text is the teacher's verdict.
    """

    train: EncodedSplit  # the task's labelled texts, then those of a source domain, unlabelled ones, augmented ones
    labelled: int  # how many the task's own are
    groups: list[int]  # (labelled,); texts of one group share words, see `shared_text_groups`
    dev: EncodedSplit
    labels: list[str]
    pair: bool
    pad_token_id: int
    embeddings: Tensor  # the teacher's word embeddings (V, d)
    seed: int


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
