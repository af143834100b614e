"""The batches of an episode."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from torch.utils.data import Sampler

from compress.l2a.selector import Selector


@dataclass
class EpisodeBatches(Sampler[list[int]]):
    """The batches of an episode, as row numbers of `task.train`.

    An episode has its target texts, its kept pool texts, a random target text for each dropped one, and its texts of the
    transfer set.
    The order is a function of (seed, episode, actions), so a resumed run sees the same batches.
    """

    selector: Selector
    batch_size: int
    episode: int = 0
    skip: int = 0

    def start_at(self, epoch: int, skip: int = 0) -> None:
        """Let the next pass be the episode `epoch`, without its first `skip` batches."""
        self.episode, self.skip = epoch, skip

    @property
    def rows(self) -> int:
        """The number of texts of an episode, the same for all: its share of pool, target texts and transfer set."""
        selector, episodes = self.selector, self.selector.episodes_per_epoch
        return -(-selector.pool_size // episodes) - (-selector.pool_start // episodes) + selector.transfer_size

    def __len__(self) -> int:
        return -(-self.rows // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        selector, rng = self.selector, random.Random(f"{self.selector.task.seed}/{self.episode}")
        rows = selector.target_rows(self.episode) + selector.transfer_rows(self.episode)
        rows += [
            selector.pool_start + row
            for row, action in zip(selector.pool_rows(self.episode), selector.actions.tolist(), strict=True)
            if action
        ]
        while (free := self.rows - len(rows)) > 0:
            rows += rng.sample(range(selector.pool_start), min(free, selector.pool_start))
        rng.shuffle(rows)
        rows.sort(key=lambda row: len(selector.task.train.encoded[row]))  # texts of similar length need little padding
        batches = [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]
        rng.shuffle(batches)
        return iter(batches[self.skip :])
