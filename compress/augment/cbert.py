"""Conditional BERT (Wu et al. 2019, arXiv 1812.06705): new words are sampled from a masked LM that is given the label."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from tokenizers import Encoding

from compress.augment.example import Augmentation, Example, chunks
from compress.augment.masked_lm import MaskedLM, Query
from compress.augment.pieces import Edit, Kind, apply_edits, encode_examples, replaceable_words
from compress.runtime.encode import Encoded

CHUNK = 64  # examples read ahead


def make_cbert(lm: MaskedLM, *, mask: float = 0.15, temperature: float = 1.0, top_k: int = 50) -> Augmentation:
    """The augmentation of §3.3: some words are masked, and new ones are sampled given the rest of the text and the label.

    Both texts of a pair get the same label. All masked tokens of a text are filled in one forward pass, each from its
    own distribution. In a word of several pieces, each piece is sampled. A text without replaceable words does not change.

    :param lm: a label-conditional model of the task.
    :param mask: share of the replaceable words that are masked, at least one. The sample may be the old word again.
    :param temperature: samples are more varied above 1, and more probable below 1.
    :param top_k: number of most probable tokens to sample from.
    :raises ValueError: an example's label is not one of the labels that the model was conditioned on.
    """

    def cbert(stream: Iterable[Example], rng: random.Random) -> Iterator[Example]:
        generator = torch.Generator().manual_seed(rng.getrandbits(63))
        for chunk in chunks(stream, CHUNK):
            encodings = encode_examples(lm.encoder.tokenizer, chunk)
            queries = [
                _mask(lm, example, encoding, mask, rng) for example, encoding in zip(chunk, encodings, strict=True)
            ]
            found = lm.candidates(queries, top_k)
            for example, encoding, query, (logits, ids) in zip(chunk, encodings, queries, found, strict=True):
                edits = []
                if query.positions:
                    picks = torch.multinomial((logits / temperature).softmax(dim=1), 1, generator=generator)
                    tokens = [lm.vocabulary.text(int(token)) for token in ids.gather(1, picks)[:, 0]]
                    edits = [Edit(*edit) for edit in zip(query.positions, tokens, strict=True)]
                yield apply_edits(example, encoding, edits)

    return cbert


def _mask(lm: MaskedLM, example: Example, encoding: Encoding, share: float, rng: random.Random) -> Query:
    if not 0 <= example.label < (lm.num_labels or 0):
        raise ValueError(f"label {example.label}: the model was conditioned on {lm.num_labels or 'no'} labels")
    words = replaceable_words(example, encoding, lm.vocabulary)
    chosen = rng.sample(words, min(len(words), max(1, round(share * len(words)))))
    kinds = {position: Kind.PART if i else Kind.WORD for word in chosen for i, position in enumerate(word.positions)}
    ids = np.array(encoding.ids)
    ids[np.array(list(kinds), dtype=int)] = lm.mask_token_id  # int, because `kinds` may be empty
    labels = np.full(len(ids), example.label)
    return Query(Encoded(ids, labels, labels), list(kinds), list(kinds.values()), [None] * len(kinds))
