"""Batches of texts that are bags of rows of an embedding table, for PyTorch's `EmbeddingBag`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Ids = NDArray[np.int64]


def shuffled_batches(examples: int, size: int, epochs: int, seed: int) -> Iterator[Ids]:
    """The numbers of the examples of each batch; each epoch has another order."""
    order = np.random.default_rng(seed)
    for _ in range(epochs):
        shuffled = order.permutation(examples)
        for start in range(0, examples, size):
            yield shuffled[start : start + size]


def joined(rows: Sequence[Ids]) -> tuple[Tensor, Tensor]:
    """The rows of all texts one after another, (M,), and where each text begins, (N,)."""
    starts = np.cumsum([0, *(len(of_text) for of_text in rows[:-1])])
    return torch.from_numpy(np.concatenate(rows).astype(np.int64)), torch.from_numpy(starts)
