"""Compares the token ids of nanotoken with those of `tokenizers`, before a bundle allows nanotoken. No torch."""

from __future__ import annotations

import random
import string
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from compress.data.corpus import Corpus
from compress.runtime.encode import Encoded, TextEncoder
from compress.runtime.wordpiece import nanotoken_version
from export.manifest import FastTokenizer

ODD_STRINGS = 10_000
CHUNK = 1_000  # texts that are encoded at once
# Code points by what tokenizers treat differently. Each range is drawn equally often.
_RANGES = (
    (0x00, 0x20),  # control characters and white space
    (0x20, 0x7F),
    (0x80, 0x250),  # more white space, accents, ligatures, dotted and dotless i
    (0x300, 0x370),  # combining marks
    (0x370, 0x600),  # Greek with its final sigma, Cyrillic, Armenian, Hebrew
    (0x600, 0x1100),  # Arabic, Indic, Thai, Georgian
    (0x1E00, 0x2000),  # letters with several accents
    (0x2000, 0x2070),  # spaces, dashes, marks without width
    (0x20A0, 0x2C00),  # currencies, symbols
    (0x3000, 0x3400),  # kana and CJK punctuation
    (0x4E00, 0xA000),  # CJK
    (0xAC00, 0xD7A4),  # Hangul
    (0xE000, 0x10000),  # private use, presentation forms, variation selectors, replacement characters
    (0x10000, 0x1FB00),  # ancient scripts, emoji
    (0x20000, 0x2FA20),  # rare CJK
    (0xE0000, 0x110000),  # tags and noncharacters
)


def check_tokenizer(
    tokenizer: Path, max_length: int, texts: Sequence[Sequence[str]], odd: int = ODD_STRINGS
) -> FastTokenizer | None:
    """Compare ids, type ids and segments, and what is truncated.

    :param texts: the texts, and for a task of pairs the second texts.
    :param odd: how many generated strings are compared too.
    :returns: what a manifest records; None if nanotoken is not installed, does not know this kind of tokenizer or differs anywhere.
    """
    version = nanotoken_version()
    if version is None:
        return None
    reference = TextEncoder(tokenizer, max_length)
    try:
        fast = TextEncoder(tokenizer, max_length, nanotoken=version)
    except ValueError:  # not a WordPiece tokenizer
        return None
    generated = [list(odd_strings(reference.tokenizer, seed, odd)) for seed in range(len(texts))]
    for examples in (texts, generated):
        for start in range(0, len(examples[0]), CHUNK):
            parts = [part[start : start + CHUNK] for part in examples]
            if not all(map(_equal, reference.encode(*parts), fast.encode(*parts))):
                return None
    return FastTokenizer(version=version, task_texts=len(texts[0]), odd_strings=odd)


def all_texts(corpus: Corpus) -> list[list[str]]:
    """The texts of all splits, and for pairs the second texts."""
    splits = corpus.splits.values()
    firsts = [text for split in splits for text in split.texts]
    return [firsts, [text for split in splits for text in split.texts_b or ()]] if corpus.pair else [firsts]


def odd_strings(tokenizer: Tokenizer, seed: int, count: int) -> Iterator[str]:
    """Strings on which two tokenizers may differ, the same for each seed.

    They join characters of all scripts, pieces of the vocabulary, special tokens, white space, and very long words.
    """
    rng = random.Random(f"odd strings/{seed}")
    vocabulary = sorted(tokenizer.get_vocab())
    special = [str(token) for token in tokenizer.get_added_tokens_decoder().values()] or vocabulary[:1]
    makers = (
        lambda: "".join(chr(rng.randrange(*rng.choice(_RANGES))) for _ in range(rng.randint(1, 6))),
        lambda: rng.choice(vocabulary),
        lambda: rng.choice(vocabulary).removeprefix("##").title(),
        lambda: rng.choice(special),
        lambda: (
            rng.choice(string.ascii_letters) * rng.choice((1, 2, 3, 100, 101))
        ),  # a word of more than 100 is unknown
        lambda: "".join(rng.choices(string.printable, k=rng.randint(1, 6))),
    )
    joints = (" ", " ", "", "  ", "\n", "\t", "\r", "\x0b", "\x00", "\u00a0", "\u200b", "\u3000", "-", "'")
    for _ in range(count):
        parts = [part for _ in range(rng.randint(0, 4)) for part in (rng.choice(makers)(), rng.choice(joints))]
        yield "".join(part for part in parts if not any("\ud800" <= character <= "\udfff" for character in part))


def _equal(one: Encoded, other: Encoded) -> bool:
    return (
        np.array_equal(one.input_ids, other.input_ids)
        and np.array_equal(one.type_ids, other.type_ids)
        and np.array_equal(one.segments, other.segments)
        and one.truncated == other.truncated
    )
