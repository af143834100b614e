"""Pairs of texts for tasks on pairs: two texts that belong to different pairs, beside each other.

The texts of a task's pairs nearly always have something to do with each other, those of a random pair do not. So pairs are
made of neighbours: texts that share rare words.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy.sparse import diags
from sklearn.preprocessing import normalize

from compress.data.words import split_words
from compress.runtime.errors import UserError
from compress.transfer.selection import ngram_counter

Pair = tuple[str, str]
# `select(bank, own, count)` gives rows of texts of a bank, `count` of them or all, that suit the task's own texts.
Select = Callable[[Sequence[str], Sequence[str], int], list[int]]

BUCKETS = 2**18  # hashed n-grams of words
COMMON = 1000  # an n-gram in more texts than these says little, and would make the search slow
NEAREST = 10  # neighbours among which one is drawn
CHUNK = 1000  # texts whose neighbours are looked for at once
SIMILAR = 0.5  # share of neighbours among the pairs of the task's own texts; the others are drawn at random
LENGTHS = (0.05, 0.95)  # quantiles of the words of a side of the task's pairs, within which the bank's texts must be


class Neighbours:
    """Finds the texts that resemble a text: by the cosine of TF-IDF vectors of their words and word bigrams."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        self._vectorizer = ngram_counter(BUCKETS)
        counts = self._vectorizer.transform(texts)
        frequency = counts.getnnz(axis=0)  # (BUCKETS,), number of texts
        weight = np.where(frequency > COMMON, 0.0, np.log((1 + len(texts)) / (1 + frequency)) + 1)
        self._scale = diags(weight)
        index = normalize(counts @ self._scale).T.tocsr()
        index.eliminate_zeros()
        self._index = index

    def draw(self, texts: Sequence[str], rng: random.Random) -> list[str | None]:
        """One of the nearest neighbours of each text, drawn at random; None where no other text shares a rare word with it."""
        return [self._texts[rng.choice(rows)] if rows else None for rows in self._nearest(texts)]

    def _nearest(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """The rows of the nearest neighbours of each text; a text that is equal to it is none."""
        for start in range(0, len(texts), CHUNK):
            asked = texts[start : start + CHUNK]
            similarity = (normalize(self._vectorizer.transform(asked) @ self._scale) @ self._index).tocsr()
            for text, first, end in zip(asked, similarity.indptr[:-1], similarity.indptr[1:], strict=True):
                values, rows = similarity.data[first:end], similarity.indices[first:end]
                order = rows[np.lexsort((rows, -values))[: 2 * NEAREST]]
                yield [row for row in order if self._texts[row].casefold() != text.casefold()][:NEAREST]


def joined_pairs(firsts: Sequence[str], seconds: Sequence[str], count: int, rng: random.Random) -> list[Pair]:
    """Up to `count` pairs of a first text of the task and the second text of another of its pairs.

    Half of them are neighbours, the others random. A text that has no neighbour is in no pair of the first half.

    :param firsts: the first text of each pair of the task.
    :param seconds: the second text of each.
    """
    similar = round(count * SIMILAR)
    rows = [*_in_turns(len(firsts), similar, rng)]
    neighbours = Neighbours(seconds).draw([firsts[row] for row in rows], rng)
    pairs = [
        (firsts[row], near)
        for row, near in zip(rows, neighbours, strict=True)
        if near is not None and near != seconds[row]
    ]
    for row in _in_turns(len(firsts), count - similar, rng):
        other = rng.randrange(len(seconds))
        if seconds[other] != seconds[row]:
            pairs.append((firsts[row], seconds[other]))
    return pairs


def pairs_of_bank(
    bank: Sequence[str], own: tuple[Sequence[str], Sequence[str]], count: int, select: Select, rng: random.Random
) -> list[Pair]:
    """Up to `count` pairs of neighbours in which one or both texts are of a bank of single texts.

    A third of them has both texts of the bank, a third has a first text of the task, a third has a second text of the
    task. The texts of the bank are as long as the task's own: first texts as its first, second texts as its second ones.

    :param own: the first and the second texts of the task's pairs.
    :param select: gives the rows of the texts to begin with; see `Select`.
    :raises UserError: no text of the bank has such a length.
    """
    firsts, seconds = (_as_long_as(side, bank) for side in own)
    third = -(-count // 3)
    index = Neighbours(seconds)
    from_bank = [firsts[row] for row in select(firsts, own[0], third)]
    pairs: list[tuple[str | None, str | None]] = [*zip(from_bank, index.draw(from_bank, rng), strict=True)]
    own_firsts = [own[0][row] for row in _in_turns(len(own[0]), third, rng)]
    pairs += zip(own_firsts, index.draw(own_firsts, rng), strict=True)
    own_seconds = [own[1][row] for row in _in_turns(len(own[1]), third, rng)]
    pairs += zip(Neighbours(firsts).draw(own_seconds, rng), own_seconds, strict=True)
    found = [(first, second) for first, second in pairs if first is not None and second is not None]
    return rng.sample(found, min(count, len(found)))


def _as_long_as(own: Sequence[str], bank: Sequence[str]) -> list[str]:
    """The texts of a bank whose number of words nine of ten of the task's own texts have."""
    shortest, longest = np.quantile([len(split_words(text)) for text in own], LENGTHS)
    kept = [text for text in bank if shortest <= len(split_words(text)) <= longest]
    if not kept:
        raise UserError(
            f"transfer.bank: no text of it has {shortest:.0f} to {longest:.0f} words, as the texts of this task's pairs have; "
            "give a table of pairs, or use transfer.joined alone"
        )
    return kept


def _in_turns(size: int, count: int, rng: random.Random) -> Iterator[int]:
    """`count` of the rows 0 … size − 1 in random order, each as often as the others."""
    order: list[int] = []
    for _ in range(count):
        order = order or rng.sample(range(size), size)
        yield order.pop()
