"""A linear model on the mean of learnt embeddings of hashed n-grams, as fastText has it, in NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from bench.engines.base import Engine, FloatArray, Model, Offer
from bench.inputs import Texts

if TYPE_CHECKING:
    from bench.task import Task
    from compress.baselines.fasttext_model import IdArray


class FastTextEngine(Engine):
    """An .npz file of a `compress.baselines.fasttext_model.FastTextModel`."""

    runtime: Literal["fasttext"] = "fasttext"
    includes: ClassVar[str] = "n-gram hashes, mean of embeddings, softmax layer"

    @classmethod
    def offers(cls, task: Task) -> Iterator[Offer]:
        """It, whatever the task is."""
        yield Offer("fasttext", "rival", lambda: cls.of_task(task))

    @classmethod
    def of_task(cls, task: Task) -> FastTextEngine:
        """The model, which is trained if it is not there."""
        rival = task.rival(
            "fastText-style", note="learnt embeddings of words and pairs of words, as arXiv 1607.01759 has it"
        )
        return cls.of(rival, name="fasttext", runner="NumPy", path=task.rivals.fasttext().absolute(), precision="fp32")

    def open(self, threads: int, device: str) -> HashedNgrams:
        """Load the arrays."""
        return HashedNgrams(self)


class HashedNgrams(Model):
    """N-grams of whole texts, however long."""

    pads: ClassVar[bool] = False

    def __init__(self, engine: FastTextEngine) -> None:
        from compress.baselines.fasttext_model import FastTextModel

        super().__init__(engine)
        self._model = FastTextModel.load(engine.path)
        self.file_bytes = engine.path.stat().st_size

    def encode(self, texts: Texts) -> list[IdArray]:
        """The rows of each text's n-grams in the table of embeddings."""
        return self._model.rows(texts.first, texts.second)

    def logits(self, batch: list[IdArray]) -> FloatArray:
        """Logits (B, C)."""
        return self._model.logits(batch)

    def parameters(self) -> int:
        """Number of weights."""
        return self._model.embeddings.size + self._model.weight.size
