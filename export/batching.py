"""Batches of token ids for a model, whatever runs it. No torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from compress.runtime.encode import Encoded, pad_batch

FloatArray = NDArray[np.float32]
Batch = dict[str, NDArray[np.int64]]
# The inputs that a graph may have, and the array of `pad_batch` that each gets.
GRAPH_INPUTS = {
    "input_ids": "input_ids",
    "attention_mask": "attention_mask",
    "token_type_ids": "type_ids",
    "segments": "segments",
}
SHORTEST_PADDED = 16  # tokens; `pad_to_power_of_two` pads every text to at least this length


class BatchedModel(ABC):
    """A classifier that takes batches of token ids."""

    @abstractmethod
    def logits(self, batch: Batch) -> FloatArray:
        """Compute the logits (B, C) of a padded batch from `pad_batch`."""

    def logits_in_batches(self, encoded: Sequence[Encoded], pad_token_id: int, batch_size: int = 32) -> FloatArray:
        """Compute the logits (N, C) of any number of texts, in the given order.

        Texts of similar length share a batch, to have little padding.
        """
        if len(encoded) == 1:  # what a service is asked most: without the microseconds of the sorting
            return self.logits(pad_batch(encoded, pad_token_id))
        order = np.argsort([len(e) for e in encoded], kind="stable")
        parts = []
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            parts.append(self.logits(pad_batch([encoded[i] for i in rows], pad_token_id)))
        return np.concatenate(parts)[np.argsort(order, kind="stable")]


def pad_to_power_of_two(batch: Batch, max_length: int) -> Batch:
    """Pad a batch (B, L) so that B and L are powers of two. Added rows are copies of the last text.

    Then few shapes occur. On a GPU a convolution takes about 10 ms at a new shape, and 0.5 ms at a shape that it has seen.

    :param max_length: the most tokens that the model takes. L is padded to this length at most; a longer batch is not cut.
    """
    rows, length = batch["input_ids"].shape
    more_rows = ((0, _next_power_of_two(rows) - rows), (0, 0))
    more_tokens = ((0, 0), (0, padded_length(length, max_length) - length))
    return {name: np.pad(np.pad(values, more_rows, mode="edge"), more_tokens) for name, values in batch.items()}


def padded_length(length: int, max_length: int) -> int:
    """The number of tokens to which `pad_to_power_of_two` pads texts of so many tokens."""
    return max(length, min(max_length, max(SHORTEST_PADDED, _next_power_of_two(length))))


def _next_power_of_two(number: int) -> int:
    """The smallest power of two that is at least `number`."""
    return 1 << (number - 1).bit_length()
