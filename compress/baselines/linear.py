"""A linear model on word and character n-grams: the classifier that a student must beat to be worth its BERT."""

from __future__ import annotations

import json
import time
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from compress.console import console
from compress.data.corpus import Corpus, Split
from compress.data.files import write_json

FILE = "linear.json"
STRENGTHS = (1.0, 4.0)  # C of the logistic regression, the inverse of its regularisation
MAX_ITERATIONS = 200
# With more classes than this a fit takes minutes, and gains nothing by weaker regularisation or by more iterations.
MANY_CLASSES, FEW_ITERATIONS = 20, 25
MOST_WEIGHTS = 10_000_000  # features × classes; fitting takes some 230 bytes of memory for each


@dataclass(frozen=True)
class LinearBaseline:
    """How a linear model does on the task. Accuracies are fractions of 1, by split."""

    accuracy: dict[str, float]
    strength: float  # the value of `STRENGTHS` that is better on dev
    features: int
    seconds: float


def read_linear(directory: Path) -> dict[str, Any]:
    """The fields of the `LinearBaseline` that `make_linear` wrote to `directory`."""
    return json.loads((directory / FILE).read_text(encoding="utf-8"))


def make_linear(corpus: Corpus, directory: Path) -> None:
    """Train the model on the labelled texts; writes `linear.json` to `directory`."""
    _, baseline = fit_linear(corpus)
    write_json(directory / FILE, asdict(baseline))
    shown = ", ".join(f"{name} {value:.2%}" for name, value in baseline.accuracy.items())
    console.print(f"  linear model on {baseline.features:,} n-grams: {shown}")


def fit_linear(corpus: Corpus) -> tuple[LinearModel, LinearBaseline]:
    """The model of the strength that is better on dev, trained on the labelled texts, and how it does on the other splits."""
    started = time.monotonic()
    train, held_out = corpus.splits["train"], [name for name in corpus.splits if name != "train"]
    features = NgramFeatures(train, most=MOST_WEIGHTS // len(corpus.labels))
    x, y = features(train), np.asarray(train.labels)
    many = len(corpus.labels) > MANY_CLASSES
    found: list[tuple[LinearModel, LinearBaseline]] = []
    for strength in STRENGTHS[-1:] if many else STRENGTHS:
        regression = LogisticRegression(C=strength, max_iter=FEW_ITERATIONS if many else MAX_ITERATIONS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the accuracy stands long before the weights do
            regression.fit(x, y)
        model = LinearModel(features, regression, len(corpus.labels))
        scores = {name: model.accuracy(corpus.splits[name]) for name in held_out}
        found.append((model, LinearBaseline(scores, strength, x.shape[1], 0.0)))
    model, best = max(found, key=lambda made: made[1].accuracy["dev"])
    return model, replace(best, seconds=round(time.monotonic() - started, 1))


@dataclass(frozen=True)
class LinearModel:
    """Logistic regression on n-grams."""

    features: NgramFeatures
    regression: LogisticRegression
    labels: int  # C

    def logits(self, x: csr_matrix) -> NDArray[np.float64]:
        """Logits (N, C) of features (N, F); those of a class without a training text are the lowest."""
        scores: NDArray[np.float64] = self.regression.decision_function(x)
        if scores.ndim == 1:  # of two classes, scikit-learn has the second one's
            scores = np.stack([-scores / 2, scores / 2], axis=1)
        logits = np.full((len(scores), self.labels), scores.min())
        logits[:, self.regression.classes_] = scores
        return logits

    def parameters(self) -> int:
        """Number of weights and biases."""
        return int(self.regression.coef_.size + self.regression.intercept_.size)

    def accuracy(self, split: Split) -> float:
        """Share of the texts whose label it predicts."""
        predicted = self.logits(self.features(split)).argmax(axis=1)
        return round(float((predicted == np.asarray(split.labels)).mean()), 5)


class NgramFeatures:
    """TF-IDF of words, of pairs of words, and of two to five characters inside words; of each text of a pair.

    Of a pair, the features are |a − b| and a · b, element by element: what differs and what both texts have.

    :param train: the texts whose n-grams are counted.
    :param most: F at most; of more n-grams, the most frequent ones are taken.
    """

    def __init__(self, train: Split, most: int) -> None:
        each = most // 2 if train.texts_b is None else most // 4
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b", max_features=each)
        characters = TfidfVectorizer(
            analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=2, max_features=each
        )
        texts = [*train.texts, *(train.texts_b or [])]
        self._vectorizers = [vectorizer for vectorizer in (words, characters) if _has_terms(vectorizer, texts)]
        if not self._vectorizers:  # no words at all, and nothing that repeats
            self._vectorizers = [characters.set_params(min_df=1).fit(texts)]

    def __call__(self, split: Split) -> csr_matrix:
        """Features (N, F)."""
        first = self._vectors(split.texts)
        if split.texts_b is None:
            return first
        second = self._vectors(split.texts_b)
        return hstack([abs(first - second), first.multiply(second)]).tocsr()

    def _vectors(self, texts: list[str]) -> csr_matrix:
        return hstack([vectorizer.transform(texts) for vectorizer in self._vectorizers]).tocsr()


def _has_terms(vectorizer: TfidfVectorizer, texts: list[str]) -> bool:
    """Fit on the texts; whether there is a term in them. Texts of signs have no words, few texts nothing that repeats."""
    try:
        vectorizer.fit(texts)
    except ValueError:
        return False
    return True
