"""The linear model on TF-IDF of n-grams that a run compares its student with, in scikit-learn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from bench.engines.base import Engine, FloatArray, Model, Offer
from bench.inputs import Texts

if TYPE_CHECKING:
    from bench.task import Task


class NgramEngine(Engine):
    """A pickled `compress.baselines.linear.LinearModel`."""

    runtime: Literal["ngrams"] = "ngrams"
    includes: ClassVar[str] = "n-gram counts, TF-IDF, sparse product"

    @classmethod
    def offers(cls, task: Task) -> Iterator[Offer]:
        """The run's own linear model."""
        yield Offer("linear", "rival", lambda: cls.of_task(task))

    @classmethod
    def of_task(cls, task: Task) -> NgramEngine:
        """The linear model, which is trained if it is not there."""
        rival = task.rival("Linear, TF-IDF", note="logistic regression on n-grams of words and characters")
        return cls.of(
            rival, name="linear", runner="scikit-learn", path=task.rivals.linear().absolute(), precision="fp64"
        )

    def open(self, threads: int, device: str) -> NgramModel:
        """Load the pickle."""
        return NgramModel(self)


class NgramModel(Model):
    """N-grams of whole texts, however long, and a product with sparse features. scikit-learn does it with one thread."""

    pads: ClassVar[bool] = False

    def __init__(self, engine: NgramEngine) -> None:
        import pickle

        super().__init__(engine)
        self._model = pickle.loads(engine.path.read_bytes())
        self.file_bytes = engine.path.stat().st_size

    def encode(self, texts: Texts) -> Any:
        """Sparse features (B, F)."""
        from compress.data.corpus import Split

        return self._model.features(Split(texts.first, texts.second, [0] * len(texts), None))

    def logits(self, batch: Any) -> FloatArray:
        """Logits (B, C)."""
        return self._model.logits(batch)

    def parameters(self) -> int:
        """Number of weights."""
        return self._model.parameters()
