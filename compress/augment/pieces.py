"""A text as WordPiece tokens, and tokens back as text: new words are put into the original text, the rest stays as it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import groupby

import torch
from tokenizers import Encoding, Tokenizer
from torch import Tensor

from compress.augment.example import Example, augmented
from compress.augment.words import is_stop_word, match_case
from compress.runtime.errors import UserError


class Kind(IntEnum):
    """What is wanted at a masked place: any whole word, the continuation of a word, or a word that is no stop word."""

    WORD = 0
    PART = 1
    CONTENT = 2


@dataclass(frozen=True)
class Vocabulary:
    """Which entries of a WordPiece vocabulary are of which kind; all of them are made of letters alone."""

    kinds: Tensor  # (3, V) bool, a row for each `Kind`
    prefix: str  # of a part: "##"
    tokens: list[str]  # (V,)

    def text(self, token: int) -> str:
        """An entry as it stands in a text, without the prefix of a part."""
        return self.tokens[token].removeprefix(self.prefix)


@dataclass(frozen=True)
class Word:
    """A word of an example that may be replaced: letters alone, known to the vocabulary, no part of a contraction."""

    positions: tuple[int, ...]  # its tokens
    text: str  # as it is written in the example


@dataclass(frozen=True)
class Edit:
    """Write `new` over the token at `position`, or over the tokens from there to `last`."""

    position: int
    new: str
    last: int | None = None


def read_vocabulary(tokenizer: Tokenizer) -> Vocabulary:
    """The letters-only entries of a tokenizer.

    :raises UserError: it is no WordPiece tokenizer, so that words and parts of words cannot be told apart.
    """
    model = json.loads(tokenizer.to_str())["model"]
    if model.get("type", "WordPiece") != "WordPiece" or "continuing_subword_prefix" not in model:
        raise UserError(
            f"augmentation.method: its masked language model needs a WordPiece tokenizer, as BERT's, and teacher.model has "
            f"{model.get('type', 'another kind')}; choose spans, eda or sampling"
        )
    prefix = model["continuing_subword_prefix"]
    vocabulary = tokenizer.get_vocab()
    tokens = [""] * (max(vocabulary.values()) + 1)
    for token, number in vocabulary.items():
        tokens[number] = token
    words = [token.isalpha() for token in tokens]
    parts = [token.startswith(prefix) and token.removeprefix(prefix).isalpha() for token in tokens]
    content = [word and not is_stop_word(token) for word, token in zip(words, tokens, strict=True)]
    return Vocabulary(torch.tensor([words, parts, content]), prefix, tokens)


def encode_examples(tokenizer: Tokenizer, batch: Sequence[Example]) -> list[Encoding]:
    """The examples as token ids, with the place of each token in its text."""
    return tokenizer.encode_batch([e.text if e.text_b is None else (e.text, e.text_b) for e in batch])


def replaceable_words(example: Example, encoding: Encoding, vocabulary: Vocabulary) -> list[Word]:
    """The words of an encoded example that an augmentation may replace, in order.

    A word cut off by truncation is none: what is left of it is another word.
    """
    sides = example.sides
    words = []
    sides_of = [*encoding.sequence_ids, None]
    places = zip(encoding.sequence_ids, encoding.word_ids, strict=True)
    for (side, number), group in groupby(enumerate(places), key=lambda item: item[1]):
        if side is None or number is None:
            continue
        positions = tuple(position for position, _ in group)
        start, end = encoding.offsets[positions[0]][0], encoding.offsets[positions[-1]][1]
        text = sides[side]
        known = all(
            bool(vocabulary.kinds[Kind.PART if i else Kind.WORD, encoding.ids[position]])
            for i, position in enumerate(positions)
        )
        contracted = bool(set(text[max(0, start - 1) : start] + text[end : end + 1]) & set("'’"))
        cut_off = sides_of[positions[-1] + 1] != side and text[end : end + 1].isalpha()
        if known and text[start:end].isalpha() and not contracted and not cut_off:
            words.append(Word(positions, text[start:end]))
    return words


def apply_edits(example: Example, encoding: Encoding, edits: Sequence[Edit]) -> Example:
    """The example with the edits made in its texts, with the capitals of what they replace; the label is −1."""
    sides = example.sides
    for edit in sorted(edits, key=lambda edit: edit.position, reverse=True):  # from the end: offsets stay true
        side = encoding.sequence_ids[edit.position]
        assert side is not None, "special tokens are never edited"
        last = edit.position if edit.last is None else edit.last
        start, end = encoding.offsets[edit.position][0], encoding.offsets[last][1]
        text = sides[side]
        sides[side] = text[:start] + match_case(edit.new, text[start:end]) + text[end:]
    return augmented(sides)
