"""N-gram sampling: contiguous stretches of the training texts (Tang et al. 2019, arXiv 1903.12136, §3.3).

A classifier of whole texts only ever sees one judgement a text. Asked about its parts, the teacher tells which of them
carried it, which a small network would need many more texts to find out.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

from compress.augment.example import Example, augmented

SHORTEST, LONGEST = 0.15, 0.85  # share of the words that a span keeps


def spans(
    stream: Iterable[Example], rng: random.Random, *, shortest: float = SHORTEST, longest: float = LONGEST
) -> Iterator[Example]:
    """One span of each text; of a pair, one side chosen at random is cut."""
    for example in stream:
        sides = example.sides
        side = int(rng.random() < 0.5) if len(sides) > 1 else 0
        sides[side] = _span(sides[side], rng, shortest, longest)
        yield augmented(sides)


def _span(text: str, rng: random.Random, shortest: float, longest: float) -> str:
    words = text.split()
    size = max(1, round(len(words) * rng.uniform(shortest, longest)))
    start = rng.randint(0, max(0, len(words) - size))
    return " ".join(words[start : start + size]) or text
