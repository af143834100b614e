"""Contamination: training texts that are also dev or test texts, as a whole or in part."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

RUN = 5  # words in a row; two texts rarely share so many unless one was made from the other
Finding = Literal["equal", "shared"]
BRACKETS = re.compile(r"-[lr][rsc]b-")  # as written in the Penn Treebank
CLITIC = re.compile(r"\s+(n't|'(?:s|m|d|re|ve|ll))\b")  # a treebank puts a space in front of it


def comparable(text: str) -> str:
    """The words of a text with single spaces between them, whatever tokeniser the text went through.

    A text without words is returned unchanged. Compatible Unicode characters (NFKC) are equal. Case and punctuation do
    not count. `does n't` and `doesn’t` are the same word, and `-LRB-` is a bracket. In a script without spaces between
    words, a sentence counts as one word. So equal texts are found in such a script, but shared runs are not.
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).replace("’", "'")
    text = CLITIC.sub(r"\1", BRACKETS.sub(" ", text)).replace("'", "")
    return " ".join(text.translate(_GAPS).split()) or text


class _Gaps(dict[int, int]):
    """A table for `str.translate`. Every character but a letter, a digit or a mark on a letter becomes a space."""

    def __missing__(self, character: int) -> int:
        kept = unicodedata.category(chr(character))[0] in "LNM"
        return self.setdefault(character, character if kept else ord(" "))


_GAPS = _Gaps()


class HeldOutIndex:
    """Word-level index of dev and test texts.

    Texts are compared as sequences of words (`comparable`). The two texts of a pair are compared separately: a question
    of a held-out pair counts as found with any other text beside it.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._whole: set[str] = set()
        self._runs: set[tuple[str, ...]] = set()
        for text in map(comparable, texts):
            self._whole.add(text)
            self._runs.update(_runs(text))

    def find(self, texts: Sequence[str]) -> Finding | None:
        """`equal` if a text of the example is a held-out text, `shared` if it has a run of five words of one, else None."""
        texts = [comparable(text) for text in texts]
        if any(text in self._whole for text in texts):
            return "equal"
        return "shared" if any(run in self._runs for text in texts for run in _runs(text)) else None


@dataclass(frozen=True)
class Contamination:
    """The contamination of one set of texts, and how much of it was removed."""

    of: str  # name of the set: training, unlabelled or source
    texts: int  # in the set
    equal: int  # texts that equal a held-out text
    shared: int  # other texts that share a run of five or more words with one
    removed: int
    option: str  # the setting of the recipe that decides what is removed

    def __str__(self) -> str:
        found = (
            f"{self.equal:,} equal a dev or test text, {self.shared:,} more share a run of {RUN} words or more with one"
        )
        done = f"{self.removed:,} removed" if self.removed else "none removed"
        return f"of {self.texts:,} {self.of} texts {found}; {done} ({self.option})"


def shared_text_groups(examples: Sequence[Sequence[str]]) -> list[int]:
    """The number of a group for each of N examples. Examples that are connected by shared text have the same number.

    Two examples are linked if they share a run of five words, or a whole text that is shorter. A group is a connected
    component of these links.

    :param examples: the one or two normalised texts of each example.
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
