"""The accuracy gate: what a precision loses on held-out data against fp32, and whether the recipe allows the loss."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.data.corpus import Corpus
from compress.recipe.sections import ExportOptions
from compress.runtime.encode import TextEncoder
from export.accuracy import show_accuracy, standard_error
from export.manifest import ClassAccuracy
from export.session import FloatArray, OnnxModel

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class GateResult:
    """What the gate says about one ONNX file.

    `dev` and `test` are accuracies, fractions of 1 like their standard errors; `test` is None without a test split. `drop` is
    the loss of dev accuracy against fp32, in points; `agreement` the share of the dev texts that get the label that fp32 gives.
    `passed` says whether both are within the budget, and `excess` by how many points the worse of the two is outside.
    `logits` has those of each split (N, C).
    """

    dev: float
    dev_error: float
    test: float | None
    test_error: float | None
    drop: float
    agreement: float
    excess: float
    classes: list[ClassAccuracy] = field(repr=False)
    logits: dict[str, FloatArray] = field(repr=False, compare=False)

    @property
    def passed(self) -> bool:
        """Whether the recipe allows the loss."""
        return self.excess <= 0

    def __str__(self) -> str:
        test = "" if self.test is None else f", test {show_accuracy(self.test, self.test_error)}"
        return f"dev {show_accuracy(self.dev, self.dev_error)}{test}, {self.verdict}"

    @property
    def verdict(self) -> str:
        """The loss in words."""
        return f"drop {self.drop:+.2f} points, {self.agreement:.2%} as in fp32: {'passed' if self.passed else 'FAILED'}"


class Gate:
    """Passes or fails ONNX files by their answers on dev. Accuracy on test is only measured for the report.

    :param options: `budget` is the largest drop that passes, `min_agreement` the least agreement.
    :param threads: of ONNX Runtime.
    """

    def __init__(
        self, corpus: Corpus, encoder: TextEncoder, pad_token_id: int, options: ExportOptions, *, threads: int = 1
    ) -> None:
        self._encoded = {n: encoder.encode(s.texts, s.texts_b) for n, s in corpus.splits.items() if n != "train"}
        self.labels = {name: np.asarray(corpus.splits[name].labels) for name in self._encoded}
        self._names = corpus.labels
        self._pad_token_id, self._options, self._threads = pad_token_id, options, threads
        self._reference: IntArray | None = None  # what fp32 answers on dev

    @property
    def wanted(self) -> str:
        """What passes, in words."""
        return f"at most {self._options.budget:.2f} points and at least {self._options.min_agreement:.2%}"

    def evaluate(self, file: Path) -> GateResult:
        """Measure a file. The first file must be the fp32 model: later files are compared with it."""
        model = OnnxModel(file, threads=self._threads)
        logits = {n: model.logits_in_batches(texts, self._pad_token_id) for n, texts in self._encoded.items()}
        predicted = {name: values.argmax(axis=1) for name, values in logits.items()}
        scores = {name: round(float((predicted[name] == self.labels[name]).mean()), 6) for name in predicted}
        errors = {name: round(standard_error(scores[name], len(self.labels[name])), 6) for name in scores}
        answers = predicted["dev"]
        if self._reference is None:
            self._reference = answers
        right = [float((found == self.labels["dev"]).mean()) for found in (self._reference, answers)]
        drop = round(100 * (right[0] - right[1]), 6)  # without the noise of binary fractions
        agreement = round(float((answers == self._reference).mean()), 6)
        excess = max(drop - self._options.budget, 100 * (self._options.min_agreement - agreement))
        return GateResult(
            scores["dev"],
            errors["dev"],
            scores.get("test"),
            errors.get("test"),
            round(drop, 2),
            agreement,
            excess,
            self._classes(answers, self._reference),
            logits,
        )

    def _classes(self, answers: IntArray, reference: IntArray) -> list[ClassAccuracy]:
        """The accuracy of each label that has a text in dev; those that lost most come first, ties in the order of the labels."""
        labels = self.labels["dev"]
        found = []
        for number, name in enumerate(self._names):
            rows = labels == number
            if rows.any():
                accuracy, before = float((answers[rows] == number).mean()), float((reference[rows] == number).mean())
                drop = round(100 * (before - accuracy), 2)
                found.append(ClassAccuracy(label=name, texts=int(rows.sum()), accuracy=round(accuracy, 6), drop=drop))
        return sorted(found, key=lambda one: -one.drop)
