"""Which texts of a bank are worth judging: importance resampling on hashed n-grams (DSIR, arXiv 2302.03169).

Two bags of n-grams say how likely a text is, one of the task's own texts and one of the bank. The weight of a text is the
ratio of both. Texts are drawn without replacement in proportion to their weights, so that likely texts come first and
variety stays. Texts that are far from the task do harm to some tasks; drawing at random would take mostly such texts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import HashingVectorizer

BUCKETS = 2**17  # hashed n-grams: more than the task's own texts can fill, few enough for every bucket to be counted
SMOOTHING = 1.0  # added to the count of every bucket


def select_similar(bank: Sequence[str], own: Sequence[str], count: int, seed: int) -> list[int]:
    """Rows of `count` texts of the bank that resemble the task's own, drawn by their importance weights, in the bank's order.

    :param own: the task's training texts.
    :param count: all texts are taken where the bank has fewer.
    """
    if count >= len(bank):
        return list(range(len(bank)))
    scores = importance(bank, own)
    # The largest of log weight + Gumbel noise are a draw without replacement (Kool et al. 2019, arXiv 1903.06059).
    noise = np.random.default_rng(seed).gumbel(size=len(bank))
    chosen = np.argpartition(-(scores + noise), count - 1)[:count]
    return sorted(chosen.tolist())


def importance(bank: Sequence[str], own: Sequence[str]) -> NDArray[np.float64]:
    """Log weight (N,) of each text of the bank: log p(text | own texts) − log p(text | bank), a mean over its n-grams times the
    square root of their number.

    The paper sums over all n-grams; then a long text has a weight that is either huge or tiny, whatever it says.
    """
    vectorizer = HashingVectorizer(
        n_features=BUCKETS, ngram_range=(1, 2), norm=None, alternate_sign=False, token_pattern=r"(?u)\b\w+\b|[?!]"
    )
    of_bank, of_own = vectorizer.transform(bank), vectorizer.transform(own)
    ratio = _log_shares(of_own) - _log_shares(of_bank)
    length = np.maximum(np.asarray(of_bank.sum(axis=1)).ravel(), 1.0)
    return (of_bank @ ratio) / np.sqrt(length)


def _log_shares(counts: csr_matrix) -> NDArray[np.float64]:
    """Log of each bucket's smoothed share of all n-grams, (BUCKETS,)."""
    totals = np.asarray(counts.sum(axis=0)).ravel() + SMOOTHING
    return np.log(totals / totals.sum())
