"""Contamination: texts to learn from that stand, whole or in part, among the texts a figure is reported on."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

RUN = 5  # words in a row that two texts rarely share unless one was made from the other
Finding = Literal["equal", "shared"]
BRACKETS = re.compile(r"-[lr][rsc]b-")  # as the Penn Treebank writes them
CLITIC = re.compile(r"\s+(n't|'(?:s|m|d|re|ve|ll))\b")  # which a treebank parts from its word


def comparable(text: str) -> str:
    """The words of a text, whoever tokenised it, with single spaces between; the text itself if it has none.

    Compatible characters are one, case and punctuation do not count, `does n't` and `doesn’t` are the same word, and
    `-LRB-` is a bracket. A script that sets no spaces between words has one word a sentence here: of such texts, what is
    equal is found, and shared runs are not.
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).replace("’", "'")
    text = CLITIC.sub(r"\1", BRACKETS.sub(" ", text)).replace("'", "")
    return " ".join(text.translate(_GAPS).split()) or text


class _Gaps(dict[int, int]):
    """A table for `str.translate`: a space for all that is no letter, digit or mark on a letter."""

    def __missing__(self, character: int) -> int:
        kept = unicodedata.category(chr(character))[0] in "LNM"
        return self.setdefault(character, character if kept else ord(" "))


_GAPS = _Gaps()


class HeldOutIndex:
    """Word-level index of dev and test texts.

    Texts are compared as sequences of words (`comparable`). Of a pair, each text counts for itself: a question that
    stands in a held-out pair has been seen, whatever it is paired with.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._whole: set[str] = set()
        self._runs: set[tuple[str, ...]] = set()
        for text in map(comparable, texts):
            self._whole.add(text)
            self._runs.update(_runs(text))

    def find(self, texts: Sequence[str]) -> Finding | None:
        """`equal` if one of an example's texts is a held-out text, `shared` if they share a run of five words."""
        texts = [comparable(text) for text in texts]
        if any(text in self._whole for text in texts):
            return "equal"
        return "shared" if any(run in self._runs for text in texts for run in _runs(text)) else None


@dataclass(frozen=True)
class Contamination:
    """What was found in one set of texts, and whether it was removed."""

    of: str  # the set: training, unlabelled or source
    texts: int  # that were looked at
    equal: int  # that equal a held-out text
    shared: int  # of the others, those that share a run of five or more words with one
    removed: int
    option: str  # the recipe's key that decides what is removed

    def __str__(self) -> str:
        found = (
            f"{self.equal:,} equal a dev or test text, {self.shared:,} more share a run of {RUN} words or more with one"
        )
        done = f"{self.removed:,} removed" if self.removed else "none removed"
        return f"of {self.texts:,} {self.of} texts {found}; {done} ({self.option})"


def shared_text_groups(examples: Sequence[Sequence[str]]) -> list[int]:
    """A number for each example (N,); examples linked by shared text, however many others lie between, have the same one.

    Two are linked where they share a run of five words, or a whole text that is shorter.

    :param examples: the one or two normalised texts of each.
    """
    leader = list(range(len(examples)))

    def group_of(row: int) -> int:
        while leader[row] != row:
            leader[row] = leader[leader[row]]
            row = leader[row]
        return row

    first_with: dict[tuple[str, ...], int] = {}
    for row, texts in enumerate(examples):
        for text in texts:
            for run in list(_runs(text)) or [tuple(text.split())]:
                leader[group_of(row)] = group_of(first_with.setdefault(run, row))
    return [group_of(row) for row in range(len(examples))]


def _runs(text: str) -> Iterable[tuple[str, ...]]:
    words = text.split()
    return zip(*(words[start:] for start in range(RUN)), strict=False)
