"""Which texts of a bank are worth judging: importance resampling on hashed n-grams (DSIR, arXiv 2302.03169).

Two bags of n-grams say how likely a text is, one of the task's own texts and one of the bank. The weight of a text is the
ratio of both. Texts are drawn without replacement in proportion to their weights, so that likely texts come first and
variety stays. Texts that are far from the task do harm to some tasks, and a bank may have few others. So only texts are
drawn whose weight one of a hundred of the task's own texts does not reach, measured on own texts that were not counted.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import HashingVectorizer

from compress.data.words import spaced_words

BUCKETS = 2**17  # hashed n-grams: more than the task's own texts can fill, few enough for every bucket to be counted
SMOOTHING = 1.0  # added to the count of every bucket
HELD_OUT = 5  # every fifth of the task's own texts says how near is near enough
FARTHEST = 0.01  # quantile of their weights that a text of the bank must reach
Weights = NDArray[np.float64]


def select_random(bank: Sequence[str], own: Sequence[str], count: int, seed: int) -> list[int]:
    """Rows of `count` texts of the bank, drawn at random, in the bank's order. All are taken where it has fewer."""
    return sorted(random.Random(f"bank/{seed}").sample(range(len(bank)), min(count, len(bank))))


def select_similar(bank: Sequence[str], own: Sequence[str], count: int, seed: int) -> list[int]:
    """Rows of texts of the bank that resemble the task's own, drawn by their importance weights, in the bank's order.

    :param own: the task's training texts, at least two.
    :param count: fewer are drawn if fewer are near enough to the task.
    """
    counted = [text for row, text in enumerate(own) if row % HELD_OUT]
    scores, held_out = importance(bank, counted, own[::HELD_OUT])
    near = np.flatnonzero(scores >= np.quantile(held_out, FARTHEST))
    if count < len(near):
        # The largest of log weight + Gumbel noise are a draw without replacement (Kool et al. 2019, arXiv 1903.06059).
        noise = np.random.default_rng(seed).gumbel(size=len(bank))
        near = near[np.argpartition(-(scores + noise)[near], count - 1)[:count]]
    return sorted(near.tolist())


def ngram_counter(buckets: int, tokens: str = r"(?u)\b\w+\b") -> HashingVectorizer:
    """Counts words and pairs of neighbouring words, hashed to `buckets` numbers, in texts of any script.

    :param tokens: a regular expression of what counts as a word.
    """
    return HashingVectorizer(
        n_features=buckets,
        ngram_range=(1, 2),
        norm=None,
        alternate_sign=False,
        preprocessor=spaced_words,
        token_pattern=tokens,
    )


def importance(bank: Sequence[str], own: Sequence[str], others: Sequence[str]) -> tuple[Weights, Weights]:
    """Log weights (N,) of the texts of the bank and of others (M,): log p(text | own texts) − log p(text | bank).

    The weight is a mean over the text's n-grams times the square root of their number. The paper sums over all n-grams; then
    a long text has a weight that is either huge or tiny, whatever it says.
    """
    vectorizer = ngram_counter(BUCKETS, r"(?u)\b\w+\b|[?!]")
    of_bank = vectorizer.transform(bank)
    ratio = _log_shares(vectorizer.transform(own)) - _log_shares(of_bank)

    def weights(counts: csr_matrix) -> Weights:
        return (counts @ ratio) / np.sqrt(np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1.0))

    return weights(of_bank), weights(vectorizer.transform(others))


def _log_shares(counts: csr_matrix) -> Weights:
    """Log of each bucket's smoothed share of all n-grams, (BUCKETS,)."""
    totals = np.asarray(counts.sum(axis=0)).ravel() + SMOOTHING
    return np.log(totals / totals.sum())
