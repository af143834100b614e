"""What dev looked like: the reference with which a server compares what it sees later. No torch."""

from __future__ import annotations

import random
import zlib
from base64 import b64decode, b64encode
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from compress.runtime.encode import TextEncoder
from export.batching import FloatArray
from export.manifest import DevAnswers, SeenTokens

BINS = 10  # of the scores
MOST_TEXTS = 100_000  # of train that are read for their tokens


def dev_answers(probabilities: FloatArray, labels: Sequence[str]) -> DevAnswers:
    """How often a model gave each label on dev, and how its scores are distributed over bins that hold a tenth of them each.

    :param probabilities: calibrated, (N, C).
    :param labels: the names of the classes.
    """
    scores = probabilities.max(axis=1)
    edges = np.unique(np.quantile(scores, np.arange(1, BINS) / BINS).round(6)).tolist()
    counts = np.bincount(np.searchsorted(edges, scores, side="left"), minlength=len(edges) + 1)
    shares = np.bincount(probabilities.argmax(axis=1), minlength=len(labels)) / len(scores)
    return DevAnswers(
        texts=len(scores),
        labels=dict(zip(labels, shares.round(6).tolist(), strict=True)),
        score_edges=edges,
        score_shares=(counts / len(scores)).round(6).tolist(),
    )


def seen_tokens(
    encoder: TextEncoder,
    train: tuple[Sequence[str], Sequence[str] | None],
    dev: tuple[Sequence[str], Sequence[str] | None],
    seed: int,
) -> SeenTokens:
    """Which tokens occur in train, and how many of those of dev do not.

    :param train: the texts, and the second ones of pairs. Of more than `MOST_TEXTS` some are drawn.
    """
    texts, texts_b = train
    rows = random.Random(seed).sample(range(len(texts)), min(len(texts), MOST_TEXTS))
    seen = np.zeros(
        1 + max(encoder.tokenizer.get_vocab().values()), bool
    )  # ids may have gaps, so their count is not enough
    for one in encoder.encode([texts[row] for row in rows], texts_b and [texts_b[row] for row in rows]):
        seen[one.input_ids] = True
    tokens = np.concatenate([one.input_ids for one in encoder.encode(*dev)])
    bitmap = b64encode(zlib.compress(np.packbits(seen).tobytes(), 9)).decode()
    return SeenTokens(bitmap=bitmap, unseen_share=round(float((~seen[tokens]).mean()), 6))


def unseen(tokens: SeenTokens) -> NDArray[np.bool_]:
    """For each token, and some numbers behind the last one, whether it does not occur in train."""
    return np.unpackbits(np.frombuffer(zlib.decompress(b64decode(tokens.bitmap)), np.uint8)) == 0
