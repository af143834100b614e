"""Drift: do the texts of the clients still look like those of dev? Metrics of what a worker saw, and the distance from dev. No torch.

The student is looked at, since every text passes it, whatever a cascade does with it then. The distance is the population stability
index (PSI, Siddiqi 2006, "Credit Risk Scorecards"): the sum over bins of (actual − expected) · ln(actual / expected). Without any drift it is
about (bins − 1) · (1 / window + 1 / texts of dev), Yurdakul 2018, "Statistical Properties of Population Stability Index".
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from math import log, nan

import numpy as np
from prometheus_client import Counter, Gauge, Histogram

from compress.runtime.encode import Encoded
from export.batching import FloatArray
from export.bundle import Bundle
from export.manifest import DevAnswers
from export.reference import unseen

LABEL_BINS = 10  # the labels that are the most frequent on dev, and all others as one: more bins, more noise
NO_REFERENCE = (
    "the bundle is from before its answers on dev were kept, so /metrics has no drift figure; export it again with --force, or set "
    "POCKETBERT_DRIFT_WINDOW=0"
)
UPDATES = 20  # of the figure, while a window goes by
SCORES = Histogram(
    "pocketbert_score",
    "The student's score of each text (or pair): the probability of its label.",
    buckets=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0),
)
TOKENS = Counter("pocketbert_tokens", "Tokens of the texts, as far as the student reads them.")
UNSEEN = Counter("pocketbert_unseen_tokens", "Those of them that do not occur in the training texts.")
PSI = Gauge(
    "pocketbert_population_stability_index",
    "How far the last texts of a worker are from dev, by the student's labels and by its scores. NaN: too few texts yet.",
    ["domain", "of"],
    multiprocess_mode="livemostrecent",
)
DEV_LABELS = Gauge(
    "pocketbert_dev_label_share",
    "Share of dev that got each label.",
    ["domain", "label"],
    multiprocess_mode="livemostrecent",
)
DEV_UNSEEN = Gauge(
    "pocketbert_dev_unseen_token_share",
    "Share of dev's tokens that do not occur in train.",
    ["domain"],
    multiprocess_mode="livemostrecent",
)


class Drift:
    """Looks at what the student of a predictor says.

    :param precisions: the precision of the student of each domain; the key is None in a bundle of one student.
    :param window: how many texts of a worker the distance is computed of.
    """

    def __init__(self, bundle: Bundle, precisions: dict[str | None, str], window: int) -> None:
        self._parts = {
            domain: _Part(domain or "", part.models[precisions[domain]].dev_answers, window)
            for domain, part in bundle.parts.items()
        }
        self._seen = {domain: part.seen_tokens for domain, part in bundle.parts.items()}
        self._unseen = {domain: unseen(seen) for domain, seen in self._seen.items() if seen is not None}
        self.lacks_reference = not all(part.has_reference for part in self._parts.values())

    def announce(self) -> None:
        """Say in the metrics what dev was like, and that nothing was seen yet."""
        for domain, part in self._parts.items():
            part.announce()
            seen = self._seen[domain]
            if seen is not None:
                DEV_UNSEEN.labels(domain or "").set(seen.unseen_share)

    def saw(self, domain: str | None, encoded: Sequence[Encoded], probabilities: FloatArray) -> None:
        """Count the texts of a request.

        :param domain: whose student answered.
        :param probabilities: those of the student, (N, C).
        """
        scores = probabilities.max(axis=1).tolist()
        for score in scores:
            SCORES.observe(score)
        self._parts[domain].add(probabilities.argmax(axis=1).tolist(), scores)
        if domain in self._unseen:
            ids = encoded[0].input_ids if len(encoded) == 1 else np.concatenate([one.input_ids for one in encoded])
            TOKENS.inc(len(ids))
            UNSEEN.inc(int(np.count_nonzero(self._unseen[domain][ids])))


class _Part:
    """The window over the texts of one student."""

    def __init__(self, domain: str, dev: DevAnswers | None, window: int) -> None:
        self._domain, self._dev, self._size = domain, dev, window
        self._window: deque[tuple[int, int]] = deque()
        self._left = window  # texts until the next update
        if dev is None:
            return
        shares = list(dev.labels.values())
        frequent = sorted(range(len(shares)), key=lambda one: -shares[one])
        self._bin = {label: min(place, LABEL_BINS - 1) for place, label in enumerate(frequent)}
        self._edges = dev.score_edges
        bins = (min(len(shares), LABEL_BINS), len(dev.score_shares))
        self._counts = tuple([0] * number for number in bins)
        expected = [0.0] * bins[0]
        for label, share in enumerate(shares):
            expected[self._bin[label]] += share
        self._expected = tuple([round(share * dev.texts) for share in one] for one in (expected, dev.score_shares))

    @property
    def has_reference(self) -> bool:
        """Whether there is something to compare with."""
        return self._dev is not None

    def announce(self) -> None:
        if self._dev is None:
            return
        for label, share in self._dev.labels.items():
            DEV_LABELS.labels(self._domain, label).set(share)
        for of in ("labels", "scores"):
            PSI.labels(self._domain, of).set(nan)

    def add(self, labels: Sequence[int], scores: Sequence[float]) -> None:
        if self._dev is None:
            return
        counts_of_labels, counts_of_scores = self._counts
        for label, score in zip(labels, scores, strict=True):
            bins = self._bin[label], bisect_left(self._edges, score)
            counts_of_labels[bins[0]] += 1
            counts_of_scores[bins[1]] += 1
            self._window.append(bins)
            if len(self._window) > self._size:
                old = self._window.popleft()
                counts_of_labels[old[0]] -= 1
                counts_of_scores[old[1]] -= 1
        self._left -= len(labels)
        if self._left <= 0:
            self._left = max(1, self._size // UPDATES)
            for of, counts, expected in zip(("labels", "scores"), self._counts, self._expected, strict=True):
                PSI.labels(self._domain, of).set(population_stability_index(counts, expected))


def population_stability_index(actual: Sequence[int], expected: Sequence[int]) -> float:
    """The PSI of two histograms over the same bins. Half a text is added to each bin, since an empty one would make it infinite."""
    total, of_expected = sum(actual) + len(actual) / 2, sum(expected) + len(expected) / 2
    found = 0.0
    for count, other in zip(actual, expected, strict=True):
        share, reference = (count + 0.5) / total, (other + 0.5) / of_expected
        found += (share - reference) * log(share / reference)
    return found
