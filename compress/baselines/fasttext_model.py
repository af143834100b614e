"""A classifier of hashed words and pairs of words in NumPy, as fastText has it (Joulin et al. 2017, arXiv 1607.01759). No torch."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
IdArray = NDArray[np.int64]

BUCKETS = 2_000_000  # of the hashes, as fastText has by default
END = "</s>"  # in every text, as fastText adds it: what the texts have in common
_TOKEN = re.compile(r"\w+|[^\w\s]")  # fastText's own recipes set punctuation apart and write all in lower case
_FACTOR = np.uint64(116049371)  # by which fastText joins the hashes of a pair of words


@dataclass(frozen=True)
class FastTextModel:
    """Embeddings of the words and pairs of words of the training texts, and the softmax layer on their mean."""

    hashes: IdArray  # (F,), ascending
    embeddings: FloatArray  # (F, d)
    weight: FloatArray  # (C, d)

    def rows(self, texts: Sequence[str], texts_b: Sequence[str] | None) -> list[IdArray]:
        """The rows of each text's words and pairs of words; what is in no training text has none."""
        return [self._known(hashes) for hashes in hashed(texts, texts_b)]

    def logits(self, rows: Sequence[IdArray]) -> FloatArray:
        """Logits (N, C) of the softmax layer (§2)."""
        means = np.stack([self.embeddings[of_text].mean(axis=0) for of_text in rows])
        return means @ self.weight.T

    def save(self, file: Path) -> None:
        """Write an .npz file."""
        np.savez(file, hashes=self.hashes.astype(np.int32), embeddings=self.embeddings, weight=self.weight)

    @classmethod
    def load(cls, file: Path) -> FastTextModel:
        """Read what `save` wrote."""
        with np.load(file) as arrays:
            return cls(arrays["hashes"].astype(np.int64), arrays["embeddings"], arrays["weight"])

    def _known(self, hashes: IdArray) -> IdArray:
        rows = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        return rows[self.hashes[rows] == hashes]


def hashed(texts: Sequence[str], texts_b: Sequence[str] | None) -> list[IdArray]:
    """The hashes of the words and of the pairs of neighbours of each text, below `BUCKETS`; a text of a pair follows the other."""
    if texts_b is None:
        return [_hashes(text, None) for text in texts]
    return [_hashes(first, second) for first, second in zip(texts, texts_b, strict=True)]


def _hashes(first: str, second: str | None) -> IdArray:
    tokens = [*_TOKEN.findall(first.lower()), END]
    if second is not None:
        tokens += [*_TOKEN.findall(second.lower()), END]
    # A hash of Python itself differs from process to process.
    words = np.array([zlib.crc32(token.encode()) for token in tokens], np.uint64)
    pairs = words[:-1] * _FACTOR + words[1:]  # modulo 2⁶⁴
    return (np.concatenate([words, pairs]) % np.uint64(BUCKETS)).astype(np.int64)
