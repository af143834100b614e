"""The texts for the timings: the task's own texts, and texts made of their words with an exact number of tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from compress.runtime.encode import TextEncoder
from compress.runtime.errors import UserError

_NO_TRUNCATION = 1 << 16  # tokens


@dataclass(frozen=True)
class Texts:
    """Texts, or pairs of texts. Both lists have the same length."""

    first: list[str]
    second: list[str] | None = None

    def __len__(self) -> int:
        return len(self.first)

    def take(self, rows: Sequence[int]) -> Texts:
        """The texts of these rows, in this order."""
        return Texts([self.first[i] for i in rows], None if self.second is None else [self.second[i] for i in rows])


def batches(texts: Texts, batch_size: int) -> list[Texts]:
    """Batches in the given order. The last one may be smaller."""
    return [texts.take(range(start, min(start + batch_size, len(texts)))) for start in range(0, len(texts), batch_size)]


def sorted_by_length(texts: Texts, encoder: TextEncoder) -> Texts:
    """The texts sorted by number of tokens, the shortest first. Batches then have little padding."""
    return texts.take(np.argsort(token_counts(texts, encoder), kind="stable").tolist())


def token_counts(texts: Texts, encoder: TextEncoder) -> list[int]:
    """Number of tokens of each text or pair, special tokens included."""
    return [len(encoded) for encoded in encoder.encode(texts.first, texts.second)]


class TextBuilder:
    """Makes texts with an exact number of tokens, special tokens included, of consecutive words of the task's own texts.

    :param tokenizer_file: the tokenizer that counts.
    :param texts: the task's own texts. Of pairs it makes pairs, with half of the tokens in each text.
    """

    def __init__(self, tokenizer_file: Path, texts: Texts) -> None:
        self._encoder = TextEncoder(tokenizer_file, _NO_TRUNCATION)
        self._pair = texts.second is not None
        self._words = self._split(" " + " ".join(texts.first + (texts.second or [])))

    def build(self, length: int, number: int) -> Texts:
        """`number` texts of `length` tokens. Each starts at another place of the task's texts.

        :raises UserError: these words cannot make a text of exactly `length` tokens.
        """
        starts = [i * len(self._words) // number for i in range(number)]
        if not self._pair:
            return Texts([self._fill(start, length, lambda text: self._count(text)) for start in starts])
        first, second = [], []
        for start in starts:
            a = self._fill(start, length // 2, lambda text: self._count(text))
            first.append(a)
            second.append(self._fill(start + length, length, lambda text, a=a: self._count(a, text)))  # type: ignore[misc]
        return Texts(first, second)

    def _fill(self, start: int, length: int, count: Callable[[str], int]) -> str:
        """Add word after word from `start` on. Leave out words that would make the text too long."""
        text, position, left_out = "", start, 0
        while left_out < len(self._words):
            longer = text + self._words[position % len(self._words)]
            tokens = count(longer.strip())
            if tokens == length:
                return longer.strip()
            text, left_out = (longer, 0) if tokens < length else (text, left_out + 1)
            position += 1
        raise UserError(
            f"bench.lengths: the task's own words make no text of exactly {length} tokens; choose another length"
        )

    def _count(self, text: str, text_b: str | None = None) -> int:
        return len(self._encoder.encode([text], None if text_b is None else [text_b])[0])

    def _split(self, text: str) -> list[str]:
        """The words as the tokenizer sees them, each with the space before it.

        A cut inside a word would change its tokens.
        """
        encoding = self._encoder.tokenizer.encode(text, add_special_tokens=False)
        ends: dict[int, int] = {}
        for word, (_, end) in zip(encoding.word_ids, encoding.offsets, strict=True):
            if word is not None:
                ends[word] = end
        cuts = [0, *ends.values()]
        return [text[a:b] for a, b in pairwise(cuts) if a < b]
