"""The texts that a search and its trials learn from, and those that they hold out."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch.utils.data import DataLoader

from compress.data.batches import EncodedSplit, make_loader
from compress.distil.task import StudentTask
from compress.runtime.encode import Encoded

HELD_OUT_SHARE = 0.2  # of the labelled texts: for the architecture steps; the weight steps never use these texts
RUN = 5  # tokens in a row


@dataclass(frozen=True)
class SearchTexts:
    """The texts of a search and its trials."""

    learned: EncodedSplit  # labelled texts, and after them those of the transfer set
    transfer: int  # number of texts of the transfer set
    share: float  # of the transfer set's texts in a pass
    held_out: EncodedSplit

    @property
    def own(self) -> int:
        """Number of labelled texts to learn from."""
        return len(self.learned) - self.transfer

    def batches(self, batch_size: int, seed: int, steps: int) -> DataLoader[int]:
        """A loader of `steps` batches an epoch, in random order."""
        return make_loader(
            self.learned,
            batch_size,
            shuffle=True,
            seed=seed,
            transfer=self.transfer,
            share=self.share,
            length=steps,
        )


def search_texts(task: StudentTask) -> SearchTexts:
    """The texts of a search.

    Of the transfer set, the texts are left out that share a run of five tokens with a held-out text, as texts joined from
    spans of it do. An architecture that memorises phrases would look good otherwise. Augmented texts are in neither part,
    because the search is the most expensive stage.
    """
    learned, held_out = split_rows(task.groups, task.seed)
    further = range(len(task.train) - task.transfer, len(task.train))
    barred = {run for row in held_out for run in _runs(task.train.encoded[row])}
    transfer = [row for row in further if barred.isdisjoint(_runs(task.train.encoded[row]))]
    return SearchTexts(
        learned=task.train.subset([*learned, *transfer]),
        transfer=len(transfer),
        share=task.share,
        held_out=task.train.subset(held_out),
    )


def split_rows(groups: Sequence[int], seed: int) -> tuple[list[int], list[int]]:
    """The row numbers of the labelled texts, split in two: those for the weight steps and those for the architecture steps.

    Each part is in random order. The texts of a group go into the same part. Otherwise an architecture that memorises the
    phrases of a sentence would look good on the other texts of its group. A group larger than the architecture steps' part
    is split text by text.

    :param groups: the group of each labelled text (N,).
    """
    rng = random.Random(seed)
    wanted = max(1, round(len(groups) * HELD_OUT_SHARE))
    members: dict[int, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    units: list[list[int]] = []
    for rows in members.values():
        units += [rows] if len(rows) <= wanted else [[row] for row in rows]
    rng.shuffle(units)
    held_out: list[int] = []
    learned: list[int] = []
    for unit in units:
        (held_out if len(held_out) + len(unit) <= wanted else learned).extend(unit)
    rng.shuffle(learned)
    rng.shuffle(held_out)
    return learned, held_out


def _runs(text: Encoded) -> Iterable[tuple[int, ...]]:
    """The runs of five tokens without the first and the last one, which are special; of a shorter text all its tokens."""
    tokens = text.input_ids.tolist()[1:-1]
    return zip(*(tokens[start:] for start in range(RUN)), strict=False) if len(tokens) >= RUN else [tuple(tokens)]
