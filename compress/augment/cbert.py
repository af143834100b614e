"""Conditional BERT (Wu et al. 2019, arXiv 1812.06705): words sampled from a masked LM that knows the example's label."""

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
    """The augmentation of §3.3: words are masked and sampled anew, given the rest of the text and the label.

    Both texts of a pair share the label. All masked tokens of a text are filled in one pass, each from its own
    distribution; of a word of several pieces, each piece becomes a new one. A text without a word stays as it is.

    :param lm: a label-conditional model of the task.
    :param mask: share of the words of letters that are replaced, at least one; the sample may be the same word again.
    :param temperature: above 1 the samples become more varied, below 1 more likely.
    :param top_k: samples come from so many of the likeliest tokens.
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
    ids[np.array(list(kinds), dtype=int)] = lm.mask_token_id  # there may be none
    labels = np.full(len(ids), example.label)
    return Query(Encoded(ids, labels, labels), list(kinds), list(kinds.values()), [None] * len(kinds))
