"""WordPiece tokens of a text, and edits of the text at its tokens. The rest of the text stays as it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from itertools import groupby

import torch
from tokenizers import Encoding, Tokenizer
from torch import Tensor

from compress.augment.example import Example, augmented
from compress.augment.words import is_stop_word, match_case
from compress.runtime.errors import UserError


class Kind(IntEnum):
    """The token allowed at a masked position: any whole word, the continuation of a word, or a word that is no stop word."""

    WORD = 0
    PART = 1
    CONTENT = 2


@dataclass(frozen=True)
class Vocabulary:
    """The entries of a WordPiece vocabulary, and which are of which kind. Only entries of letters alone have a kind."""

    kinds: Tensor  # (3, V) bool, one row for each `Kind`
    prefix: str  # of a continuation, e.g. "##"
    tokens: list[str]  # (V,)

    @cached_property
    def words_and_parts(self) -> tuple[list[bool], list[bool]]:
        """Which entries are whole words, and which continuations: as lists, which are read one by one twenty times as fast."""
        words, parts, _ = self.kinds.tolist()
        return words, parts

    def text(self, token: int) -> str:
        """An entry as it is written in a text, without the prefix of a continuation."""
        return self.tokens[token].removeprefix(self.prefix)


@dataclass(frozen=True)
class Word:
    """A replaceable word of an example: letters alone, known to the vocabulary, no part of a contraction."""

    positions: tuple[int, ...]  # of its tokens
    text: str  # as it is written in the example


@dataclass(frozen=True)
class Edit:
    """Replace the token at `position`, or the tokens from `position` to `last`, by `new`."""

    position: int
    new: str
    last: int | None = None


def read_vocabulary(tokenizer: Tokenizer, what: str = "augmentation.method: its masked language model") -> Vocabulary:
    """The vocabulary of a tokenizer.

    :param what: needs it, for the message.
    :raises UserError: it is no WordPiece tokenizer. Only WordPiece entries tell words from continuations.
    """
    model = json.loads(tokenizer.to_str())["model"]
    if model.get("type", "WordPiece") != "WordPiece" or "continuing_subword_prefix" not in model:
        cure = "set it to 0" if what.startswith("transfer") else "choose spans, eda or sampling"
        raise UserError(
            f"{what} needs a WordPiece tokenizer, as BERT's, and teacher.model has {model.get('type', 'another kind')}; {cure}"
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
    """Token ids of the examples, with the place of each token in its text."""
    return tokenizer.encode_batch([e.text if e.text_b is None else (e.text, e.text_b) for e in batch])


def replaceable_words(example: Example, encoding: Encoding, vocabulary: Vocabulary) -> list[Word]:
    """The replaceable words of an encoded example, in order.

    A word that truncation cut is left out, because its rest is another word.
    """
    sides = example.sides
    words = []
    # Each of these makes a new list of all tokens.
    ids, offsets, sequence_ids = encoding.ids, encoding.offsets, encoding.sequence_ids
    is_word, is_part = vocabulary.words_and_parts
    sides_of = [*sequence_ids, None]
    places = zip(sequence_ids, encoding.word_ids, strict=True)
    for (side, number), group in groupby(enumerate(places), key=lambda item: item[1]):
        if side is None or number is None:
            continue
        positions = tuple(position for position, _ in group)
        start, end = offsets[positions[0]][0], offsets[positions[-1]][1]
        text = sides[side]
        known = is_word[ids[positions[0]]] and all(is_part[ids[position]] for position in positions[1:])
        contracted = bool(set(text[max(0, start - 1) : start] + text[end : end + 1]) & set("'’"))
        cut_off = sides_of[positions[-1] + 1] != side and text[end : end + 1].isalpha()
        if known and text[start:end].isalpha() and not contracted and not cut_off:
            words.append(Word(positions, text[start:end]))
    return words


def apply_edits(example: Example, encoding: Encoding, edits: Sequence[Edit]) -> Example:
    """The example with the edits made in its texts, unlabelled. New words take the capitals of the old ones."""
    sides, sequence_ids, offsets = example.sides, encoding.sequence_ids, encoding.offsets
    for edit in sorted(edits, key=lambda edit: edit.position, reverse=True):  # from the end, so that offsets stay valid
        side = sequence_ids[edit.position]
        assert side is not None, "special tokens are never edited"
        last = edit.position if edit.last is None else edit.last
        start, end = offsets[edit.position][0], offsets[last][1]
        text = sides[side]
        sides[side] = text[:start] + match_case(edit.new, text[start:end]) + text[end:]
    return augmented(sides)
