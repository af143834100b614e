"""Static token embeddings distilled from the teacher and fine-tuned, in NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from bench.engines.base import Engine, FloatArray, Model, Offer
from bench.inputs import Texts
from compress.runtime.encode import Encoded

if TYPE_CHECKING:
    from bench.task import Task


class StaticEngine(Engine):
    """An .npz file of a `compress.baselines.static.StaticModel`."""

    runtime: Literal["static"] = "static"
    includes: ClassVar[str] = "tokenisation, sum of embeddings, head"

    @classmethod
    def offers(cls, task: Task) -> Iterator[Offer]:
        """It, whatever the task is. To make it takes the teacher."""
        yield Offer("static", "rival", lambda: cls.of_task(task))

    @classmethod
    def of_task(cls, task: Task) -> StaticEngine:
        """The static embeddings, which are distilled if they are not there.

        :raises UserError: as `Rivals.static`.
        """
        rival = task.rival("Static embeddings", note="distilled from the teacher, then fine-tuned")
        return cls.of(rival, name="static", runner="NumPy", path=task.rivals.static().absolute(), precision="fp32")

    def open(self, threads: int, device: str) -> StaticEmbeddings:
        """Load tokenizer and arrays."""
        return StaticEmbeddings(self)


class StaticEmbeddings(Model):
    """Embeddings, summed and scaled to length 1, times the head."""

    pads: ClassVar[bool] = False

    def __init__(self, engine: StaticEngine) -> None:
        from compress.baselines.static_model import StaticModel

        super().__init__(engine)
        self._model = StaticModel.load(engine.path)
        self.file_bytes = engine.path.stat().st_size

    def encode(self, texts: Texts) -> tuple[list[Encoded], bool]:
        """Token ids, and whether they are of pairs."""
        return self.encoder.encode(texts.first, texts.second), texts.second is not None

    def logits(self, batch: tuple[list[Encoded], bool]) -> FloatArray:
        """Logits (B, C)."""
        texts, pair = batch
        return self._model.logits(texts, pair=pair)

    def parameters(self) -> int:
        """Number of weights."""
        return self._model.parameters
