"""The student, or a rival that was made as students are: one model of a bundle, run as the server runs it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bench.engines.base import Classifier, Engine, FloatArray, Model, Offer, precision_title
from bench.engines.onnx import count_weights
from compress.runtime.encode import IntArray
from export.bundle import Bundle
from export.session import BundleSession, is_for

if TYPE_CHECKING:
    from bench.task import Task

LAYERS = (1, 2, 3)  # of the teacher, in the rivals that are cut from it


class BundleEngine(Engine):
    """A bundle and the precision of one of its models."""

    runtime: Literal["bundle"] = "bundle"

    @classmethod
    def offers(cls, task: Task) -> Iterator[Offer]:
        """Every model of the bundle that the device can run, and on a CPU transformers cut from the teacher."""
        for precision, entry in task.manifest.models.items():
            if is_for(task.device, precision, entry):
                yield Offer(f"student-{precision}", "student", partial(cls.of_student, task, precision))
        for number, place in enumerate(task.beside, start=1):
            yield Offer(f"beside-{number}", "student", partial(cls.of_beside, task, number, place))
        for number in LAYERS if task.device == "cpu" else ():
            if number < task.teacher_layers:
                yield Offer(f"layers-{number}", "rival", partial(cls.of_layers, task, number), by_default=False)

    @classmethod
    def of_student(cls, task: Task, precision: str) -> BundleEngine:
        """The task's student.

        :param precision: one of the bundle's.
        :raises UserError: the bundle has other labels than the data.
        """
        return cls._of_bundle(f"student-{precision}", task.bundle, precision, task.student(precision))

    @classmethod
    def of_beside(cls, task: Task, number: int, place: Path) -> BundleEngine:
        """The default model of another bundle of the task.

        :param number: counts such bundles from 1.
        :raises UserError: there is no bundle, or it has other labels than the data.
        """
        precision = Bundle(place).manifest.default
        return cls._of_bundle(f"beside-{number}", place, precision, task.student(precision, place))

    @classmethod
    def _of_bundle(cls, name: str, place: Path, precision: str, student: Classifier) -> BundleEngine:
        runtime = Bundle(place).manifest.models[precision].runtime
        software = "ONNX Runtime" if runtime == "onnxruntime" else "TensorRT"
        runner = f"{software} {precision_title(precision)}"
        return cls.of(student, name=name, runner=runner, path=place.absolute(), precision=precision)

    @classmethod
    def of_layers(cls, task: Task, number: int) -> BundleEngine:
        """A transformer with so many of the teacher's layers, distilled on the task's own texts.

        :raises UserError: as `Rivals.layers`.
        """
        directory = task.rivals.layers(number)
        manifest = Bundle(directory).manifest
        precision = "int8" if "int8" in manifest.models else manifest.default
        rival = task.rival(
            f"{number} layer{'s' if number > 1 else ''} of the teacher", note="distilled on the task's own texts"
        )
        return cls.of(
            rival,
            name=f"layers-{number}",
            runner=f"ONNX Runtime {precision_title(precision)}",
            path=directory.absolute(),
            precision=precision,
        )

    def open(self, threads: int, device: str) -> BundleModel:
        """Load the bundle's tokenizer and the model, and check their hashes."""
        return BundleModel(self, threads, device)


class BundleModel(Model):
    """One model of a bundle."""

    def __init__(self, engine: BundleEngine, threads: int, device: str) -> None:
        super().__init__(engine)
        bundle = Bundle(engine.path)
        _, entry = bundle.model(engine.precision)
        self._onnx_file = engine.path / entry.file if entry.runtime == "onnxruntime" else None
        session = BundleSession(bundle, precision=engine.precision, threads=threads, device=device)
        self._model, self.encoder = session.model, session.encoder
        self.file_bytes = (engine.path / entry.file).stat().st_size

    def logits(self, batch: dict[str, IntArray]) -> FloatArray:
        """Logits (B, C)."""
        return self._model.logits(batch)

    def parameters(self) -> int | None:
        """Number of weights; None for a TensorRT engine."""
        return count_weights(self._onnx_file) if self._onnx_file else None
