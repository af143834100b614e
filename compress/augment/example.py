"""The interface of every augmentation: a stream of examples in, the same number of new examples out."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from compress.data.corpus import UNLABELLED, Split


@dataclass(frozen=True)
class Example:
    """A text, or a pair of texts, with its label as an index into `Corpus.labels`."""

    text: str
    text_b: str | None
    label: int

    @property
    def sides(self) -> list[str]:
        """The one or two texts."""
        return [self.text] if self.text_b is None else [self.text, self.text_b]


# A lazy function whose result depends on its two arguments alone. It yields one new, unlabelled example for each input
# example, in the same order, and may read a few examples ahead. A pair stays a pair with its texts in the same order.
# No text becomes empty.
Augmentation = Callable[[Iterable[Example], random.Random], Iterator[Example]]


def examples(split: Split) -> Iterator[Example]:
    """The examples of a split, in order."""
    for row, (text, label) in enumerate(zip(split.texts, split.labels, strict=True)):
        yield Example(text, split.texts_b[row] if split.texts_b else None, label)


def augmented(sides: list[str]) -> Example:
    """A new, unlabelled example of one or two texts."""
    return Example(sides[0], sides[1] if len(sides) > 1 else None, UNLABELLED)


def chunks(stream: Iterable[Example], size: int) -> Iterator[list[Example]]:
    """Lists of up to `size` examples. Each is read from the stream only when it is requested."""
    iterator = iter(stream)
    while chunk := list(islice(iterator, size)):
        yield chunk
