"""The accuracy gate: what a precision costs on held-out data, and whether the recipe allows it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compress.data.corpus import Corpus
from compress.runtime.encode import TextEncoder
from export.session import OnnxModel


@dataclass(frozen=True)
class Verdict:
    """Accuracies are fractions, `drop` is in points of dev accuracy against fp32; `test` is None without a test split."""

    dev: float
    test: float | None
    drop: float
    passed: bool

    def __str__(self) -> str:
        test = "" if self.test is None else f", test {self.test:.2%}"
        return f"dev {self.dev:.2%}{test}, drop {self.drop:+.2f} points: {'passed' if self.passed else 'FAILED'}"


class Gate:
    """Judges ONNX files by their accuracy on dev; test is measured for the report and decides nothing."""

    def __init__(self, corpus: Corpus, encoder: TextEncoder, pad_token_id: int, budget: float) -> None:
        self._encoded = {n: encoder.encode(s.texts, s.texts_b) for n, s in corpus.splits.items() if n != "train"}
        self._labels = {name: np.asarray(corpus.splits[name].labels) for name in self._encoded}
        self.corpus = corpus
        self._pad, self._budget = pad_token_id, budget
        self._reference: float | None = None

    def judge(self, file: Path) -> Verdict:
        """Measure a file. The first one judged is the reference (fp32) that later ones are held against."""
        model = OnnxModel(file)
        scores = {name: self._accuracy(model, name) for name in self._encoded}
        if self._reference is None:
            self._reference = scores["dev"]
        drop = round(100 * (self._reference - scores["dev"]), 4)
        return Verdict(scores["dev"], scores.get("test"), drop, drop <= self._budget)

    def _accuracy(self, model: OnnxModel, split: str) -> float:
        predicted = model.logits_of(self._encoded[split], self._pad).argmax(axis=1)
        return round(float((predicted == self._labels[split]).mean()), 5)
