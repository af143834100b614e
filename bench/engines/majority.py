"""The most frequent label of the training texts as the answer to everything: an accuracy to compare with, and no time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from bench.engines.base import Engine, FloatArray, Model, Offer
from bench.inputs import Texts

if TYPE_CHECKING:
    from bench.task import Task


class MajorityEngine(Engine):
    """The number of the label and of all labels."""

    runtime: Literal["majority"] = "majority"
    timed: ClassVar[bool] = False
    answer: int
    labels: int

    @classmethod
    def offers(cls, task: Task) -> Iterator[Offer]:
        """It, whatever the task is."""
        yield Offer("majority", "rival", lambda: cls.of_task(task))

    @classmethod
    def of_task(cls, task: Task) -> MajorityEngine:
        """The majority class of the training texts."""
        ((answer, _),) = Counter(task.corpus.splits["train"].labels).most_common(1)
        rival = task.rival("Majority class", note=f"always {task.corpus.labels[answer]!r}")
        return cls.of(
            rival,
            name="majority",
            runner="",
            path=rival.tokenizer.absolute(),
            precision="none",
            answer=answer,
            labels=len(task.corpus.labels),
        )

    def open(self, threads: int, device: str) -> MajorityModel:
        """Nothing to load."""
        return MajorityModel(self)


class MajorityModel(Model):
    """The same logits for every text."""

    file_bytes = 0
    pads: ClassVar[bool] = False

    def __init__(self, engine: MajorityEngine) -> None:
        super().__init__(engine)
        self._logits = np.eye(engine.labels, dtype=np.float32)[engine.answer]

    def encode(self, texts: Texts) -> int:
        """The number of texts."""
        return len(texts)

    def logits(self, batch: int) -> FloatArray:
        """Logits (B, C)."""
        return np.tile(self._logits, (batch, 1))

    def parameters(self) -> int:
        """None to learn."""
        return 0
