"""Encoded texts as padded batches of tensors, texts of similar length together."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from compress.data.corpus import Split
from compress.runtime.encode import Encoded, TextEncoder, pad_batch

Batch = dict[str, Tensor]


@dataclass
class EncodedSplit(Dataset[int]):
    """A split as token ids. `targets` are per-example tensors (N, …) that travel with each batch, e.g. teacher logits."""

    encoded: Sequence[Encoded]
    labels: Tensor  # (N,) int64
    targets: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, index: int) -> int:
        return index  # the collate function gathers whole rows at once

    def subset(self, rows: Sequence[int]) -> EncodedSplit:
        """The examples at `rows`, targets included."""
        index = torch.as_tensor(rows)
        return EncodedSplit(
            [self.encoded[i] for i in rows],
            self.labels[index],
            {name: values[index] for name, values in self.targets.items()},
        )


def encode_split(split: Split, encoder: TextEncoder) -> EncodedSplit:
    """Tokenise a split once."""
    return EncodedSplit(encoder.encode(split.texts, split.texts_b), torch.tensor(split.labels))


def join_splits(first: EncodedSplit, second: EncodedSplit) -> EncodedSplit:
    """The examples of both, without targets."""
    return EncodedSplit([*first.encoded, *second.encoded], torch.cat([first.labels, second.labels]))


class LengthBatches(Sampler[list[int]]):
    """Batches of row numbers; within chunks of 50 batches, texts are sorted by length, so that little is padding.

    With `shuffle` the order is a function of (seed, epoch) alone, so a resumed run sees the same batches.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, *, shuffle: bool, seed: int = 0) -> None:
        self.lengths, self.batch_size, self.shuffle, self.seed = lengths, batch_size, shuffle, seed
        self.epoch = self.skip = 0

    def start_at(self, epoch: int, skip: int = 0) -> None:
        """Let the next pass be that of `epoch`, without its first `skip` batches."""
        self.epoch, self.skip = epoch, skip

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = list(range(len(self.lengths)))
        chunk = self.batch_size * 50 if self.shuffle else max(len(order), 1)
        rng = random.Random(f"{self.seed}/{self.epoch}")
        if self.shuffle:
            rng.shuffle(order)
        batches = []
        for start in range(0, len(order), chunk):
            rows = sorted(order[start : start + chunk], key=self.lengths.__getitem__)
            batches += [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]
        if self.shuffle:
            rng.shuffle(batches)
        return iter(batches[self.skip :])


def make_loader(
    split: EncodedSplit, batch_size: int, pad_token_id: int, *, shuffle: bool, seed: int = 0
) -> DataLoader[int]:
    """Batches with `input_ids`, `attention_mask`, `type_ids`, `segments` (B, L), `labels`, `index` (B,) and the targets (B, …)."""

    def collate(rows: list[int]) -> Batch:
        index = torch.tensor(rows)
        padded = pad_batch([split.encoded[i] for i in rows], pad_token_id)
        batch = {name: torch.from_numpy(values) for name, values in padded.items()}
        batch |= {"labels": split.labels[index], "index": index}
        return batch | {name: values[index] for name, values in split.targets.items()}

    lengths = [len(e) for e in split.encoded]
    sampler = LengthBatches(lengths, batch_size, shuffle=shuffle, seed=seed)
    # A generator of its own: by default each pass takes a number from the global one, and a resumed pass one too many.
    return DataLoader(split, batch_sampler=sampler, collate_fn=collate, generator=torch.Generator().manual_seed(seed))
