"""WordPiece ids from nanotoken, which needs a twentieth of the time of `tokenizers`. No torch.

nanotoken is young, and it knows neither pairs nor other models than WordPiece. So it is an optional package, and `TextEncoder`
uses it only with the version that gave the ids of `tokenizers` on many texts (see `export.tokenizer_check`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

IntArray = NDArray[np.int64]
PACKAGE = "nanotoken"
# Words that each thread remembers. A full cache of the package's own size would hold 130 MB in each thread.
CACHED_WORDS = 2**15


def nanotoken_version() -> str | None:
    """The version of nanotoken that is installed. None: it is not installed."""
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return None


class WordPiece:
    """A WordPiece tokenizer in nanotoken. It truncates like `Tokenizer.enable_truncation(max_length)`: the longer text first.

    :param tokenizer: without truncation and padding.
    :raises ValueError: nanotoken cannot have the ids of this tokenizer.
    :raises ImportError: nanotoken is not installed.
    """

    def __init__(self, tokenizer: Tokenizer, max_length: int) -> None:
        import nanotoken

        self._room = max_length - tokenizer.num_special_tokens_to_add(True)  # tokens of both texts of a pair
        if self._room < 2:
            raise ValueError(f"max_length {max_length}: no room for a token of each text")
        self._max_length = max_length
        nanotoken.set_cache_entries(CACHED_WORDS)
        self._tokenizer = nanotoken.Tokenizer.from_json(tokenizer.to_str())
        self._frame = _Frame(tokenizer)

    def singles(self, texts: Sequence[str]) -> Iterator[tuple[IntArray, bool]]:
        """For each text its ids with special tokens, (L,), and whether it was truncated."""
        for text, ids in zip(texts, self._encode(texts, special=True), strict=True):
            cut = len(ids) > self._max_length
            yield self._encode([text], special=True, max_length=self._max_length)[0] if cut else ids, cut

    def pairs(
        self, texts: Sequence[str], texts_b: Sequence[str]
    ) -> Iterator[tuple[IntArray, IntArray, IntArray, bool]]:
        """For each pair its ids, type ids and segments, (L,) each, and whether it was truncated, as in `Encoded`."""
        firsts, seconds = (self._encode(part, special=False) for part in (texts, texts_b))
        for first, second in zip(firsts, seconds, strict=True):
            kept, kept_b = _longest_first(len(first), len(second), self._room)
            yield *self._frame.fill(first[:kept], second[:kept_b]), len(first) + len(second) > self._room

    def _encode(self, texts: Sequence[str], *, special: bool, max_length: int | None = None) -> list[IntArray]:
        # `parallel` would start threads on all cores of the machine. A server uses only the cores that it is given.
        rows = self._tokenizer.encode_batch(
            list(texts), add_special_tokens=special, max_length=max_length, parallel=False
        )
        return [row.astype(np.int64) for row in rows]


class _Frame:
    """The special tokens around the two texts of a pair, and the type ids of all tokens. Taken from a pair of two tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        example = tokenizer.encode("a", "a")
        self._ids, self._types = np.asarray(example.ids, np.int64), np.asarray(example.type_ids, np.int64)
        places = [[i for i, part in enumerate(example.sequence_ids) if part == text] for text in (0, 1)]
        (self._first,), (self._second,) = places  # ValueError: "a" is not one token
        if self._first > self._second:
            raise ValueError("the second text of a pair comes first")
        self._segments = np.asarray([part == 1 for part in example.sequence_ids], np.int64)

    def fill(self, first: IntArray, second: IntArray) -> tuple[IntArray, IntArray, IntArray]:
        """Ids, type ids and segments of a pair, (L,) each, from the ids of its texts without special tokens."""
        counts = np.ones(len(self._ids), np.int64)
        counts[self._first], counts[self._second] = len(first), len(second)
        ids = np.repeat(self._ids, counts)
        ids[self._first : self._first + len(first)] = first
        start = self._second + len(first) - 1
        ids[start : start + len(second)] = second
        return ids, np.repeat(self._types, counts), np.repeat(self._segments, counts)


def _longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens of each text are kept, as `truncate_encodings` of `tokenizers` counts them."""
    if first + second <= room:
        return first, second
    short, long = sorted((first, second))
    long = max(short, room - short)
    if short + long > room:
        short, long = room // 2, room // 2 + room % 2
    return (long, short) if first > second else (short, long)
