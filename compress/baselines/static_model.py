"""A classifier of static token embeddings and a head with one hidden layer, in NumPy. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.runtime.encode import Encoded

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class StaticModel:
    """Embeddings of tokens and a head."""

    embeddings: FloatArray  # (V, d), weighted
    hidden_weight: FloatArray  # (H, d) or, for pairs, (H, 4d)
    hidden_bias: FloatArray  # (H,)
    weight: FloatArray  # (C, H)
    bias: FloatArray  # (C,)

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(array.size for array in vars(self).values())

    def logits(self, texts: Sequence[Encoded], *, pair: bool) -> FloatArray:
        """Logits (N, C)."""
        hidden = features(self.embeddings, texts, pair=pair) @ self.hidden_weight.T + self.hidden_bias
        return np.maximum(hidden, 0) @ self.weight.T + self.bias

    def save(self, file: Path) -> None:
        """Write an .npz file."""
        np.savez(file, **vars(self))

    @classmethod
    def load(cls, file: Path) -> StaticModel:
        """Read what `save` wrote."""
        with np.load(file) as arrays:
            return cls(**{name: arrays[name] for name in arrays.files})


def features(embeddings: FloatArray, texts: Sequence[Encoded], *, pair: bool) -> FloatArray:
    """The sum of the embeddings of a text's tokens, of length 1: (N, d). Of a pair (u, v): u, v, |u − v| and u · v, (N, 4d)."""
    if not pair:
        return np.stack([_unit(embeddings[text.input_ids].sum(axis=0)) for text in texts])
    rows = []
    for text in texts:
        of_tokens = embeddings[text.input_ids]
        u, v = (_unit(of_tokens[text.segments == number].sum(axis=0)) for number in (0, 1))
        rows.append(np.concatenate([u, v, abs(u - v), u * v]))
    return np.stack(rows)


def _unit(vector: FloatArray) -> FloatArray:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)
