"""The initial word embeddings of a student."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from compress.data.batches import EncodedSplit

BLOCK = 8192  # rows of a table that are in memory in double precision at a time


def project_embeddings(table: Tensor, train: EncodedSplit, width: int) -> Tensor:
    """The first word embeddings of a student (V, width): the principal components of vectors of the tokens (V, d).

    The student stores and trains only the projected table. A student wider than d gets zeros in its further channels.
    """
    projected = principal_components(table, train, width)
    projected = torch.nn.functional.pad(projected, (0, width - projected.shape[1]))
    return (projected / projected.std() * 0.5).float()


def principal_components(table: Tensor, train: EncodedSplit, most: int) -> Tensor:
    """Vectors of the tokens (V, d) projected on their first `most` principal components: (V, at most `most`), float64.

    The components are weighted by the token counts of the training texts. The table is read in blocks: one of many
    languages is large.
    """
    counts = torch.ones(len(table), dtype=torch.float64)  # add-one: a token without occurrences still counts
    ids = torch.from_numpy(np.concatenate([e.input_ids for e in train.encoded]))
    counts += torch.bincount(ids, minlength=len(table))
    shares = (counts / counts.sum())[:, None].split(BLOCK)
    blocks = table.split(BLOCK)
    mean = torch.stack([(share * block.double()).sum(dim=0) for share, block in zip(shares, blocks, strict=True)]).sum(
        0
    )
    covariance = torch.zeros(table.shape[1], table.shape[1], dtype=torch.float64)
    for share, block in zip(shares, blocks, strict=True):
        centred = block.double() - mean
        covariance += (centred * share).T @ centred
    _, vectors = torch.linalg.eigh(covariance)
    components = vectors[:, -most:].flip(1)
    return torch.cat([(block.double() - mean) @ components for block in blocks])


def project_for_members(table: Tensor, train: EncodedSplit, width: int, members: int) -> Tensor:
    """The projected embeddings of each member of an ensemble side by side, (V, members · width).

    All members get the same components. From the second on they are rotated at random, so that the members differ.
    """
    projected = project_embeddings(table, train, width)
    rotations = (torch.linalg.qr(torch.randn(width, width)).Q for _ in range(1, members))
    return torch.cat([projected, *(projected @ rotation for rotation in rotations)], dim=1)
