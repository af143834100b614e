"""Encoded texts and padded batches of them. Texts of similar length are in the same batch."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from compress.data.corpus import Split
from compress.runtime.encode import Encoded, TextEncoder, pad_batch


@dataclass(frozen=True)
class SoftTargets:
    """The outputs of a frozen teacher for N texts."""

    logits: Tensor  # (N, C)
    probes: Tensor | None = (
        None  # (N, J, C): logits of a probe on each of the teacher's J layers; the last one is its own head
    )

    def map(self, change: Callable[[Tensor], Tensor]) -> SoftTargets:
        """The same outputs with `change` applied to every tensor."""
        return SoftTargets(change(self.logits), None if self.probes is None else change(self.probes))


@dataclass(frozen=True)
class Batch:
    """B texts or pairs of texts, padded to the length L of the longest one."""

    input_ids: Tensor  # (B, L)
    attention_mask: Tensor  # (B, L): 1 on real tokens
    type_ids: Tensor  # (B, L): token types of the tokenizer, for Hugging Face models
    segments: Tensor  # (B, L): 1 on tokens of the second text without special tokens, for our own students
    labels: Tensor  # (B,): UNLABELLED for a text without a label
    index: Tensor  # (B,): row numbers in the split
    teacher: SoftTargets | None = None
    weights: Tensor | None = None  # (B,): weight of each example in the loss; None: all weights are 1
    domains: Tensor | None = None  # (B,): numbers of the texts' domains

    def __len__(self) -> int:
        return len(self.index)

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The same batch with `change` applied to every tensor."""
        changed: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            changed[field.name] = change(value) if isinstance(value, Tensor) else value and value.map(change)
        return Batch(**changed)

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        return self.map(lambda tensor: tensor.to(device))

    @property
    def teacher_logits(self) -> Tensor:
        """The teacher's logits, (B, C)."""
        assert self.teacher is not None, "the texts have no teacher's outputs"
        return self.teacher.logits

    @property
    def teacher_probes(self) -> Tensor:
        """The logits of the teacher's probes, (B, J, C)."""
        assert self.teacher is not None, "the texts have no teacher's outputs"
        assert self.teacher.probes is not None, "the teacher was not probed"
        return self.teacher.probes

    @property
    def domain_numbers(self) -> Tensor:
        """The numbers of the domains, (B,)."""
        assert self.domains is not None, "the texts have no domains"
        return self.domains


@dataclass(frozen=True)
class EncodedSplit(Dataset[int]):
    """N texts as token ids, with what a training needs of each text."""

    encoded: Sequence[Encoded]
    labels: Tensor  # (N,) int64
    pad_token_id: int
    teacher: SoftTargets | None = None
    weights: Tensor | None = None  # (N,)
    domains: Tensor | None = None  # (N,) int64

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, index: int) -> int:
        return index  # the collate function `batch` reads all rows of a batch at once

    @cached_property
    def lengths(self) -> list[int]:
        """The number of tokens of each text."""
        return [len(text) for text in self.encoded]

    def subset(self, rows: Sequence[int]) -> EncodedSplit:
        """The texts at `rows` with their labels, teacher outputs, weights and domains."""
        index = torch.as_tensor(rows)
        return EncodedSplit(
            [self.encoded[i] for i in rows],
            self.labels[index],
            self.pad_token_id,
            **self._optional_at(index),
        )

    def with_domains(self, domains: Tensor) -> EncodedSplit:
        """The same texts with the numbers (N,) of their domains."""
        return replace(self, domains=domains)

    def with_weights(self, weights: Tensor) -> EncodedSplit:
        """The same texts with weights in the loss, (N,)."""
        return replace(self, weights=weights)

    def batch(self, rows: Sequence[int]) -> Batch:
        """The texts at `rows` as one padded batch."""
        index = torch.as_tensor(rows)
        padded = pad_batch([self.encoded[i] for i in rows], self.pad_token_id)
        tensors: dict[str, Any] = {name: torch.from_numpy(values) for name, values in padded.items()}
        return Batch(**tensors, labels=self.labels[index], index=index, **self._optional_at(index))

    def _optional_at(self, index: Tensor) -> dict[str, Any]:
        """Teacher outputs, weights and domains of some rows, None where there are none."""
        return {
            "teacher": self.teacher and self.teacher.map(lambda values: values[index]),
            "weights": None if self.weights is None else self.weights[index],
            "domains": None if self.domains is None else self.domains[index],
        }

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the token ids, the boundaries between the texts of pairs, and the labels, in order."""
        digest = hashlib.sha256()
        for text in self.encoded:
            digest.update(len(text).to_bytes(8, "little"))
            digest.update(text.input_ids.tobytes())
            digest.update(text.segments.tobytes())
        digest.update(self.labels.numpy().tobytes())
        return digest.hexdigest()


def encode_split(split: Split, encoder: TextEncoder) -> EncodedSplit:
    """Tokenise a split once."""
    encoded = encoder.encode(split.texts, split.texts_b)
    return EncodedSplit(encoded, torch.tensor(split.labels), encoder.pad_token_id)


def join_splits(first: EncodedSplit, second: EncodedSplit) -> EncodedSplit:
    """The texts and labels of both splits. Teacher outputs, weights and domains are left out."""
    return EncodedSplit([*first.encoded, *second.encoded], torch.cat([first.labels, second.labels]), first.pad_token_id)


def with_transfer_set(own: EncodedSplit, transfer: EncodedSplit) -> EncodedSplit:
    """The texts of both with the teacher's answers, and with a meta-teacher's weights and domains.

    Of the transfer set the teacher's own head answers for all probes.
    """
    assert own.teacher is not None, "the teacher was asked about the task's own texts"
    assert transfer.teacher is not None, "the teacher was asked about the transfer set"
    logits, probes = transfer.teacher.logits, None
    if own.teacher.probes is not None:
        answers = logits[:, None].expand(-1, own.teacher.probes.shape[1], -1)  # (N, J, C)
        probes = torch.cat([own.teacher.probes, answers])
    targets = SoftTargets(torch.cat([own.teacher.logits, logits]), probes)
    both = replace(join_splits(own, transfer), teacher=targets)
    if own.weights is not None and transfer.weights is not None:
        both = both.with_weights(torch.cat([own.weights, transfer.weights]))
    if own.domains is not None and transfer.domains is not None:
        both = both.with_domains(torch.cat([own.domains, transfer.domains]))
    return both


class LengthBatches(Sampler[list[int]]):
    """Batches of row numbers. Within chunks of 50 batches, the texts are sorted by length, so that there is little padding.

    With `shuffle` the order depends on (seed, epoch) only, so a resumed run sees the same batches.

    :param transfer: number of texts at the end that are a transfer set. A pass takes all other texts once, and as many of
        the transfer set as `share` says, but none twice: each pass the next ones of a random order of them.
    :param share: share of the transfer set's texts in a pass.
    :param length: number of batches of an epoch, where that is not a pass over the texts. Passes follow each other without
        end, and each epoch takes the next `length` batches.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        batch_size: int,
        *,
        shuffle: bool,
        seed: int = 0,
        transfer: int = 0,
        share: float = 0.0,
        length: int | None = None,
    ) -> None:
        self.lengths, self.batch_size, self.shuffle, self.seed = lengths, batch_size, shuffle, seed
        self.length = length
        self.own = len(lengths) - transfer
        self.taken = min(transfer, round(self.own * share / (1 - share)))  # texts of the transfer set in a pass
        self.epoch = self.skip = 0

    def start_at(self, epoch: int, skip: int = 0) -> None:
        """Let the next pass be that of `epoch`, without its first `skip` batches."""
        self.epoch, self.skip = epoch, skip

    def __len__(self) -> int:
        return self._batches_of_pass if self.length is None else self.length

    @property
    def _batches_of_pass(self) -> int:
        return -(-(self.own + self.taken) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        if self.length is None:
            return iter(self._pass(self.epoch)[self.skip :])
        return self._next_batches(self.epoch * self.length + self.skip, self.length - self.skip)

    def _next_batches(self, start: int, count: int) -> Iterator[list[int]]:
        """`count` batches from number `start` on of all passes, one after the other."""
        number, skip = divmod(start, self._batches_of_pass)
        while count > 0:
            batches = self._pass(number)[skip : skip + count]
            yield from batches
            count -= len(batches)
            number, skip = number + 1, 0

    def _pass(self, number: int) -> list[list[int]]:
        """The batches of a pass over the texts."""
        transfer = range(self.own, len(self.lengths))
        order = [*range(self.own), *rows_in_turns(transfer, self.taken, number, self.seed)]
        chunk = self.batch_size * 50 if self.shuffle else max(len(order), 1)
        rng = random.Random(f"{self.seed}/{number}")
        if self.shuffle:
            rng.shuffle(order)
        batches = []
        for start in range(0, len(order), chunk):
            rows = sorted(order[start : start + chunk], key=self.lengths.__getitem__)
            batches += [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]
        if self.shuffle:
            rng.shuffle(batches)
        return batches


def rows_in_turns(rows: Sequence[int], count: int, number: int, seed: int) -> list[int]:
    """The `count` rows that part `number` of a training takes.

    Parts take the rows in turns, in an order that is new each time that all were taken.
    """
    taken: list[int] = []
    while len(taken) < count:
        turn, start = divmod(number * count + len(taken), len(rows))
        order = list(rows)
        random.Random(f"{seed}/transfer/{turn}").shuffle(order)
        taken += order[start : start + count - len(taken)]
    return taken


def make_loader(
    split: EncodedSplit,
    batch_size: int,
    *,
    shuffle: bool,
    seed: int = 0,
    transfer: int = 0,
    share: float = 0.0,
    length: int | None = None,
) -> DataLoader[int]:
    """A loader that gives the split as `Batch`es, in the order of `LengthBatches`."""
    batches = LengthBatches(
        split.lengths, batch_size, shuffle=shuffle, seed=seed, transfer=transfer, share=share, length=length
    )
    return loader_of(split, batches, seed)


def loader_of(split: EncodedSplit, batches: Sampler[list[int]], seed: int) -> DataLoader[int]:
    """A loader that gives a `Batch` for each list of rows of a sampler."""
    # The loader has its own generator. By default every pass draws a number from the global generator. A resumed pass
    # would draw it a second time.
    generator = torch.Generator().manual_seed(seed)
    return DataLoader(split, batch_sampler=batches, collate_fn=split.batch, generator=generator)
