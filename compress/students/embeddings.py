"""The initial word embeddings of a student."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from compress.data.batches import EncodedSplit


def project_embeddings(table: Tensor, train: EncodedSplit, width: int) -> Tensor:
    """Project the teacher's word embeddings (V, d) on their first `width` principal components: (V, width).

    The components are weighted by the token counts of the training texts. The student stores and trains only the
    projected table.
    """
    counts = torch.ones(len(table), dtype=torch.float64)  # add-one: a token without occurrences still counts
    ids = torch.from_numpy(np.concatenate([e.input_ids for e in train.encoded]))
    counts += torch.bincount(ids, minlength=len(table))
    share = (counts / counts.sum())[:, None]
    centred = table.double() - (share * table.double()).sum(dim=0)
    _, vectors = torch.linalg.eigh((centred * share).T @ centred)
    projected = centred @ vectors[:, -width:].flip(1)
    if projected.shape[1] < width:  # a teacher narrower than the student
        projected = torch.nn.functional.pad(projected, (0, width - projected.shape[1]))
    return (projected / projected.std() * 0.5).float()


def project_for_members(table: Tensor, train: EncodedSplit, width: int, members: int) -> Tensor:
    """The projected embeddings of each member of an ensemble side by side, (V, members · width).

    All members get the same components. From the second on they are rotated at random, so that the members differ.
    """
    projected = project_embeddings(table, train, width)
    rotations = (torch.linalg.qr(torch.randn(width, width)).Q for _ in range(1, members))
    return torch.cat([projected, *(projected @ rotation for rotation in rotations)], dim=1)
