"""Easy data augmentation, EDA (Wei & Zou 2019, arXiv 1901.11196): synonyms, insertions, swaps and deletions of words."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence

from compress.augment import wordnet
from compress.augment.example import Example, augmented
from compress.augment.words import is_stop_word, match_case, split_affixes
from compress.data.words import join_words, split_words

Synonyms = Callable[[str], Sequence[str]]  # lower-case word → its synonyms


def eda(stream: Iterable[Example], rng: random.Random, *, alpha: float = 0.1) -> Iterator[Example]:
    """Apply one of the four operations of §2 to each example, chosen uniformly. Both texts of a pair get the same one.

    :param alpha: share of the words to change, at least one word. For deletion, the probability of each word.
    :raises UserError: WordNet is not cached and cannot be fetched.
    """
    for example in stream:
        operation = rng.choice((_replace, _insert, _swap, _delete))
        yield augmented([_apply(operation, text, alpha, rng) for text in example.sides])


def replace_synonyms(words: Sequence[str], count: int, rng: random.Random, synonyms: Synonyms) -> list[str]:
    """Replace `count` random words by a random synonym. Stop words and words without synonyms are left alone."""
    new = list(words)
    for position in rng.sample(range(len(words)), len(words)):
        if count and (choices := _synonyms_of(words[position], synonyms)):
            before, core, after = split_affixes(words[position])
            new[position] = before + match_case(rng.choice(choices), core) + after
            count -= 1
    return new


def insert_synonyms(words: Sequence[str], count: int, rng: random.Random, synonyms: Synonyms) -> list[str]:
    """Insert a synonym at a random position, `count` times. It is one of a random word of the text, no stop word."""
    sources = [choices for word in words if (choices := _synonyms_of(word, synonyms))]
    new = list(words)
    for _ in range(count if sources else 0):
        new.insert(rng.randint(0, len(new)), rng.choice(rng.choice(sources)))
    return new


def swap_words(words: Sequence[str], count: int, rng: random.Random) -> list[str]:
    """Exchange the words at two random positions, `count` times."""
    new = list(words)
    for _ in range(count if len(new) > 1 else 0):
        i, j = rng.sample(range(len(new)), 2)
        new[i], new[j] = new[j], new[i]
    return new


def delete_words(words: Sequence[str], probability: float, rng: random.Random) -> list[str]:
    """Delete each word with `probability`. If all would be deleted, one random word is kept."""
    return [word for word in words if rng.random() >= probability] or [rng.choice(words)]


def _apply(operation: Callable[..., list[str]], text: str, alpha: float, rng: random.Random) -> str:
    words = split_words(text)
    return join_words(operation(words, alpha, rng)) if words else text


def _count(words: Sequence[str], alpha: float) -> int:
    return max(1, round(alpha * len(words)))


def _replace(words: Sequence[str], alpha: float, rng: random.Random) -> list[str]:
    return replace_synonyms(words, _count(words, alpha), rng, wordnet.synonyms)


def _insert(words: Sequence[str], alpha: float, rng: random.Random) -> list[str]:
    return insert_synonyms(words, _count(words, alpha), rng, wordnet.synonyms)


def _swap(words: Sequence[str], alpha: float, rng: random.Random) -> list[str]:
    return swap_words(words, _count(words, alpha), rng)


def _delete(words: Sequence[str], alpha: float, rng: random.Random) -> list[str]:
    return delete_words(words, alpha, rng)


def _synonyms_of(word: str, synonyms: Synonyms) -> Sequence[str]:
    core = split_affixes(word)[1]
    return () if not core or is_stop_word(core) else synonyms(core.lower())
