"""N-gram sampling: spans of consecutive words of the training texts (Tang et al. 2019, arXiv 1903.12136, §3.3).

A whole text gives the student only one label. The teacher's answers on parts of the text show which part decided the
label. Without them, a small network needs many more texts to learn this.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

from compress.augment.example import Example, augmented
from compress.data.words import join_words, split_words

SHORTEST, LONGEST = 0.15, 0.85  # share of the words that a span keeps


def spans(stream: Iterable[Example], rng: random.Random) -> Iterator[Example]:
    """One span of each text. In a pair, one random side is cut to a span."""
    for example in stream:
        sides = example.sides
        side = int(rng.random() < 0.5) if len(sides) > 1 else 0
        sides[side] = random_span(sides[side], SHORTEST, LONGEST, rng)
        yield augmented(sides)


def random_span(text: str, shortest: float, longest: float, rng: random.Random) -> str:
    """Consecutive words of a text, at least one; the text itself if it has none.

    :param shortest: least share of the words that it has.
    :param longest: largest share of them.
    """
    words = split_words(text)
    size = max(1, round(len(words) * rng.uniform(shortest, longest)))
    start = rng.randint(0, max(0, len(words) - size))
    return join_words(words[start : start + size]) or text
