"""Each token of a vocabulary as a text of its own."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from compress.data.batches import EncodedSplit
from compress.runtime.encode import Encoded, TextEncoder

MOST_TOKENS = 130_000  # a larger vocabulary takes an encoder too long, and is one of many languages


def single_tokens(encoder: TextEncoder, ids: NDArray[np.int64]) -> EncodedSplit:
    """Each of the tokens `ids` with the special tokens around it, without a label."""
    before, after = special_tokens(encoder)
    zeros = np.zeros(len(before) + 1 + len(after), np.int64)
    texts = [Encoded(np.array([*before, token, *after], np.int64), zeros, zeros) for token in ids]
    return EncodedSplit(texts, torch.zeros(len(texts), dtype=torch.long), 0)


def special_tokens(encoder: TextEncoder) -> tuple[list[int], list[int]]:
    """The special tokens that the tokenizer puts before and after a single text."""
    empty, short = (encoded.input_ids.tolist() for encoded in encoder.encode(["", "a"]))
    same = [ours == other for ours, other in zip(empty, short, strict=False)]
    before = same.index(False) if False in same else len(same)
    return empty[:before], empty[before:]
