"""Texts joined from spans of different texts of the task: where there is no bank, or too small a one, they stand in."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from compress.augment.spans import random_span
from compress.data.words import join_words

SPANS = (2, 3)  # fewest and most spans of a joined text
SHORTEST, LONGEST = 0.2, 0.7  # share of the words of a text that its span has


def joined_texts(texts: Sequence[str], count: int, rng: random.Random) -> Iterator[str]:
    """`count` texts, each of two or three spans of different texts in random order."""
    for _ in range(count if texts else 0):
        parts = rng.sample(texts, min(rng.randint(*SPANS), len(texts)))
        yield join_words([random_span(part, SHORTEST, LONGEST, rng) for part in parts])
