"""Masking, replacement by part of speech and n-gram sampling (Tang et al. 2019, arXiv 1903.12136, §3.3)."""

from __future__ import annotations

import random
import re
from bisect import bisect
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Protocol

from compress.augment.example import Augmentation, Example, augmented
from compress.augment.words import match_case, split_affixes
from compress.data.words import join_words, split_words

LONGEST_NGRAM = 5
TAGGED_TEXTS = 100_000  # texts whose tags are cached: tagging is most of the work, and each pass has the same texts

# The tagger was trained on Penn Treebank tokens: "don't" is "do" and "n't", "film's" is "film" and "'s".
_TOKEN = re.compile(r"\w+?(?=n['’]t\b)|n['’]t\b|['’](?:s|re|ve|ll|d|m)\b|\w+(?:-\w+)*|\.\.\.|[^\w\s]")


class Tagger(Protocol):
    """A part-of-speech tagger."""

    def tag(self, words: Sequence[str]) -> list[str]:
        """The tag of each word of a sentence."""


class WordSampler:
    """The unigram distribution of the training texts' words for each part-of-speech tag."""

    def __init__(self, texts: Iterable[str], tagger: Tagger) -> None:
        self.tagger = tagger
        self._tags = lru_cache(TAGGED_TEXTS)(self._tag)
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for text in texts:
            for word, tag in zip(split_words(text), self._tags(text), strict=True):
                if tag:
                    counts[tag][_dictionary_form(split_affixes(word)[1], tag)] += 1
        self._words = {tag: list(count) for tag, count in counts.items()}
        self._cumulative = {tag: list(accumulate(count.values())) for tag, count in counts.items()}

    def tags(self, text: str) -> tuple[str, ...]:
        """The tag of each word of `split_words`, without its punctuation; "" for punctuation alone."""
        return self._tags(text)

    def sample(self, tag: str, rng: random.Random) -> str | None:
        """A word of the training texts with this tag, sampled by frequency; None for an unknown tag."""
        if tag not in self._words:
            return None
        cumulative = self._cumulative[tag]
        return self._words[tag][bisect(cumulative, rng.randrange(cumulative[-1]))]

    def _tag(self, text: str) -> tuple[str, ...]:
        tokens: list[str] = []
        cores: list[int | None] = []  # for each word, the index of the token that its core starts with
        for word in split_words(text):
            before, core, _ = split_affixes(word)
            first = None
            for token in _TOKEN.finditer(word):
                if core and first is None and token.end() > len(before):
                    first = len(tokens)
                tokens.append(token[0])
            cores.append(first)
        tags = self.tagger.tag(tokens)
        return tuple("" if first is None else tags[first] for first in cores)


def make_sampling(
    texts: Iterable[str], tagger: Tagger, mask_token: str, *, mask: float = 0.1, pos: float = 0.1, ngram: float = 0.25
) -> Augmentation:
    """The augmentation of §3.3. New words are sampled from `texts`, the training texts (both sides of pairs).

    In a pair, the first text, the second text or both are changed. The three cases have the same probability; the paper
    takes them in turn. If an n-gram is kept, each text that is changed is cut to one.

    :param mask_token: the mask token of the teacher's tokenizer, as text.
    :param mask: p_mask, the probability that a word is masked.
    :param pos: p_pos, the probability that a word is replaced by one with the same tag. A masked word is not replaced.
    :param ngram: p_ng, the probability that only an n-gram is kept, with n uniform in 1 … 5.
    """
    words = WordSampler(texts, tagger)

    def change(text: str, keep_ngram: bool, rng: random.Random) -> str:
        new = split_words(text)
        draws = [rng.random() for _ in new]
        # A text is tagged only if a word of it is replaced. Most short texts need no tags.
        tags = words.tags(text) if any(mask <= draw < mask + pos for draw in draws) else ()
        for i, draw in enumerate(draws):
            before, core, after = split_affixes(new[i])
            if draw < mask:
                new[i] = before + mask_token + after if core else mask_token
            elif draw < mask + pos and (word := words.sample(tags[i], rng)):
                new[i] = before + match_case(word, core) + after
        if keep_ngram and new:
            size = min(rng.randint(1, LONGEST_NGRAM), len(new))
            start = rng.randint(0, len(new) - size)
            new = new[start : start + size]
        return join_words(new) or text

    def sampling(stream: Iterable[Example], rng: random.Random) -> Iterator[Example]:
        for example in stream:
            sides = example.sides
            changed = rng.choice([(0,), (1,), (0, 1)]) if len(sides) > 1 else (0,)
            keep_ngram = rng.random() < ngram
            yield augmented(
                [change(text, keep_ngram, rng) if side in changed else text for side, text in enumerate(sides)]
            )

    return sampling


def _dictionary_form(core: str, tag: str) -> str:
    """A word as it is written inside a sentence: only names keep their capital."""
    return core if tag.startswith("NNP") or core == "I" else core.lower()
