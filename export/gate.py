"""The accuracy gate: how much accuracy a precision loses on held-out data, and whether the recipe allows the loss."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compress.data.corpus import Corpus
from compress.runtime.encode import TextEncoder
from export.session import OnnxModel


@dataclass(frozen=True)
class GateResult:
    """The accuracy of one ONNX file.

    `dev` and `test` are fractions; `test` is None without a test split. `drop` is the loss of dev accuracy against fp32, in
    points. `passed` says whether the drop is within the budget.
    """

    dev: float
    test: float | None
    drop: float
    passed: bool

    def __str__(self) -> str:
        test = "" if self.test is None else f", test {self.test:.2%}"
        return f"dev {self.dev:.2%}{test}, drop {self.drop:+.2f} points: {'passed' if self.passed else 'FAILED'}"


class Gate:
    """Passes or fails ONNX files by their accuracy on dev. Accuracy on test is only measured for the report.

    :param budget: the largest drop that passes, in points of dev accuracy.
    """

    def __init__(self, corpus: Corpus, encoder: TextEncoder, pad_token_id: int, budget: float) -> None:
        self._encoded = {n: encoder.encode(s.texts, s.texts_b) for n, s in corpus.splits.items() if n != "train"}
        self._labels = {name: np.asarray(corpus.splits[name].labels) for name in self._encoded}
        self._pad_token_id, self._budget = pad_token_id, budget
        self._reference: float | None = None

    def evaluate(self, file: Path) -> GateResult:
        """Measure a file. The first file must be the fp32 model: later files are compared with it."""
        model = OnnxModel(file)
        scores = {name: self._accuracy(model, name) for name in self._encoded}
        if self._reference is None:
            self._reference = scores["dev"]
        drop = round(100 * (self._reference - scores["dev"]), 4)
        return GateResult(scores["dev"], scores.get("test"), drop, drop <= self._budget)

    def _accuracy(self, model: OnnxModel, split: str) -> float:
        predicted = model.logits_in_batches(self._encoded[split], self._pad_token_id).argmax(axis=1)
        return round(float((predicted == self._labels[split]).mean()), 5)
