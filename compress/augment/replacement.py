"""TinyBERT's word replacement (Jiao et al. 2020, arXiv 1909.10351, §3.2 and algorithm 1)."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from tokenizers import Encoding

from compress.augment.example import Augmentation, Example, chunks
from compress.augment.masked_lm import MaskedLM, Query
from compress.augment.neighbours import NearestWords
from compress.augment.pieces import Edit, Kind, Word, apply_edits, encode_examples, replaceable_words
from compress.augment.words import is_stop_word
from compress.runtime.encode import Encoded

CHUNK = 64  # examples read ahead
MASKED = 0.15  # largest share of the tokens masked in one pass, as in the training of masked language models


def make_replacement(lm: MaskedLM, *, probability: float = 0.4, candidates: int = 15) -> Augmentation:
    """The augmentation of algorithm 1. As in its reference code, stop words are neither replaced nor inserted.

    A word of one piece is masked and replaced by one of the most probable words at its position. A word of several
    pieces is replaced by one of its nearest words in the model's own word embeddings (the paper takes GloVe's). One
    forward pass masks at most 15 % of a text's tokens, so a text may need several. Neighbouring chosen words are masked
    in different passes. The chosen words of other passes stay visible.

    :param probability: p_t, the probability that a word is replaced.
    :param candidates: K, the number of candidates. One is chosen uniformly.
    """
    nearest = NearestWords(lm.vocabulary, lm.model.get_input_embeddings().weight, candidates)

    def replacement(stream: Iterable[Example], rng: random.Random) -> Iterator[Example]:
        for chunk in chunks(stream, CHUNK):
            encodings = encode_examples(lm.encoder.tokenizer, chunk)
            chosen = [
                [
                    word
                    for word in replaceable_words(example, encoding, lm.vocabulary)
                    if not is_stop_word(word.text) and rng.random() < probability
                ]
                for example, encoding in zip(chunk, encodings, strict=True)
            ]
            options = _masked_candidates(lm, encodings, chosen, candidates)
            for example, encoding, words, likely in zip(chunk, encodings, chosen, options, strict=True):
                edits = []
                for word in words:
                    ids = [encoding.ids[position] for position in word.positions]
                    if choices := likely[word.positions[0]] if len(ids) == 1 else nearest.of(ids, word.text):
                        edits.append(Edit(word.positions[0], rng.choice(choices), word.positions[-1]))
                yield apply_edits(example, encoding, edits)

    return replacement


def _masked_candidates(
    lm: MaskedLM, encodings: Sequence[Encoding], chosen: Sequence[Sequence[Word]], count: int
) -> list[dict[int, list[str]]]:
    """For each text: position of a chosen word of one piece → its candidates."""
    queries, rows = [], []
    for row, (encoding, words) in enumerate(zip(encodings, chosen, strict=True)):
        positions = [word.positions[0] for word in words if len(word.positions) == 1]
        passes = -(-len(positions) // max(1, int(MASKED * len(encoding.ids))))
        for number in range(passes):
            queries.append(_query(lm, encoding, positions[number::passes]))
            rows.append(row)
    found: list[dict[int, list[str]]] = [{} for _ in encodings]
    for row, query, (logits, ids) in zip(rows, queries, lm.candidates(queries, count), strict=True):
        for position, values, tokens in zip(query.positions, logits, ids, strict=True):
            wanted = tokens[torch.isfinite(values)].tolist()
            found[row][position] = [lm.vocabulary.text(token) for token in wanted]
    return found


def _query(lm: MaskedLM, encoding: Encoding, positions: list[int]) -> Query:
    ids = np.array(encoding.ids)
    banned: list[int | None] = [int(ids[position]) for position in positions]
    ids[positions] = lm.mask_token_id
    types = np.array(encoding.type_ids)
    return Query(Encoded(ids, types, types), positions, [Kind.CONTENT] * len(positions), banned)
