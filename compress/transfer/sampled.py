"""Texts sampled from a trigram model of the task's own words: new requests in the words and turns of the old ones.

A word follows two others as often as it does in the training texts. So every three words in a row have been written by somebody, and the
whole by nobody. Where texts are short, the teacher is surer of such a text than of one that is joined from spans, and the student
learns more from it.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence

from compress.data.words import join_words, split_words

MOST_TEXTS = 200_000  # of which the model is made; it holds all of their words
ATTEMPTS = 4  # texts that are sampled for each that is wanted; of a small table most are copies
FEWEST_WORDS = 2
_START, _END = "", " "  # no words: a word is not empty, and has a letter or a sign


class Trigrams:
    """What follows two words, in some texts.

    :param texts: with words.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._next: dict[tuple[str, str], list[str]] = defaultdict(list)
        self._longest = 0  # words
        for text in texts:
            words = split_words(text)
            self._longest = max(self._longest, len(words))
            before = (_START, _START)
            for word in (*words, _END):
                self._next[before].append(word)
                before = (before[1], word)

    def sample(self, rng: random.Random) -> list[str]:
        """The words of a text, at most as many as the longest text has."""
        words: list[str] = []
        before = (_START, _START)
        while len(words) < self._longest and (word := rng.choice(self._next[before])) != _END:
            words.append(word)
            before = (before[1], word)
        return words


def sampled_texts(texts: Sequence[str], count: int, rng: random.Random) -> Iterator[str]:
    """Up to `count` texts, each once and none of them one of `texts`. Fewer of a few texts, since most samples are copies then."""
    if not texts or not count:
        return
    model = Trigrams(texts if len(texts) <= MOST_TEXTS else rng.sample(list(texts), MOST_TEXTS))
    seen = {join_words(split_words(text)) for text in texts}
    for _ in range(ATTEMPTS * count):
        words = model.sample(rng)
        text = join_words(words)
        if len(words) >= FEWEST_WORDS and text not in seen:
            seen.add(text)
            yield text
            count -= 1
            if not count:
                return
