"""The BERT baseline, the teacher or the frozen encoder exported to ONNX, in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from bench.engines.base import Engine, FloatArray, Model, Offer, precision_title
from compress.runtime.encode import IntArray
from export.session import OnnxModel

if TYPE_CHECKING:
    from bench.task import Task

Precision = Literal["fp32", "int8"]


class OnnxEngine(Engine):
    """An .onnx file, run by ONNX Runtime."""

    runtime: Literal["onnx"] = "onnx"
    precision: Precision

    @classmethod
    def offers(cls, task: Task) -> Iterator[Offer]:
        """BERT and the frozen encoder in fp32, and on a CPU in INT8 too; BERT as Optimum exports it, if there is an interpreter for that."""
        yield Offer("bert-onnx", "bert", partial(cls.of_bert, task, "fp32"))
        # ONNX Runtime has no MatMulInteger for CUDA. It would run on the CPU without a word.
        if task.device == "cpu":
            yield Offer("bert-onnx-int8", "bert", partial(cls.of_bert, task, "int8"))
        if task.baseline_options.optimum is not None:
            yield Offer("bert-optimum", "bert", partial(cls.of_optimum, task, "fp32"))
            if task.device == "cpu":
                yield Offer("bert-optimum-int8", "bert", partial(cls.of_optimum, task, "int8"))
        yield Offer("frozen-onnx", "rival", partial(cls.of_frozen, task, "fp32"))
        if task.device == "cpu":
            yield Offer("frozen-onnx-int8", "rival", partial(cls.of_frozen, task, "int8"))

    @classmethod
    def of_bert(cls, task: Task, precision: Precision) -> OnnxEngine:
        """The BERT baseline; makes its .onnx file if that is not in the cache.

        :raises UserError: as `Baseline`.
        """
        return cls.of(
            task.bert(),
            name="bert-onnx-int8" if precision == "int8" else "bert-onnx",
            runner=f"ONNX Runtime {precision_title(precision)}",
            path=(task.baseline.int8() if precision == "int8" else task.baseline.onnx()).absolute(),
            precision=precision,
        )

    @classmethod
    def of_optimum(cls, task: Task, precision: Precision) -> OnnxEngine:
        """The BERT baseline as Optimum exports and quantises it.

        :raises UserError: as `Baseline` and `Baseline.optimum`.
        """
        bert, made = task.bert(), task.baseline.optimum_versions
        by = f"exported by optimum-onnx {made['optimum-onnx']}, transformers {made['transformers']}"
        return cls.of(
            replace(bert, note=f"{bert.note}; {by}"),
            name="bert-optimum-int8" if precision == "int8" else "bert-optimum",
            runner=f"Optimum {precision_title(precision)}",
            path=task.baseline.optimum(int8=precision == "int8").absolute(),
            precision=precision,
        )

    @classmethod
    def of_frozen(cls, task: Task, precision: Precision) -> OnnxEngine:
        """The teacher's encoder before its fine-tuning, with a logistic regression on its states.

        :raises UserError: as `Rivals.frozen`.
        """
        return cls.of(
            task.rival("Frozen encoder", note="with logistic regression"),
            name="frozen-onnx-int8" if precision == "int8" else "frozen-onnx",
            runner=f"ONNX Runtime {precision_title(precision)}",
            path=task.rivals.frozen(int8=precision == "int8").absolute(),
            precision=precision,
        )

    @classmethod
    def of_teacher(cls, task: Task, file: Path, precision: Precision) -> OnnxEngine:
        """The task's teacher.

        :param file: its .onnx file.
        :raises UserError: there is no teacher, or it has other labels than the data.
        """
        return cls.of(
            task.fine_tuned_teacher(),
            name=f"teacher-onnx-{precision}",
            runner=f"ONNX Runtime {precision_title(precision)}",
            path=file.absolute(),
            precision=precision,
        )

    def open(self, threads: int, device: str) -> BertOnnxModel:
        """Load tokenizer and graph."""
        return BertOnnxModel(self, threads, device)


class BertOnnxModel(Model):
    """A BERT in ONNX Runtime."""

    def __init__(self, engine: OnnxEngine, threads: int, device: str) -> None:
        super().__init__(engine)
        self._file = engine.path
        self._model = OnnxModel(engine.path, threads=threads, device=device)
        self.file_bytes = engine.path.stat().st_size

    def logits(self, batch: dict[str, IntArray]) -> FloatArray:
        """Logits (B, C)."""
        return self._model.logits(batch)

    def parameters(self) -> int:
        """Number of weights."""
        return count_weights(self._file)


def count_weights(onnx_file: Path) -> int:
    """Number of weights in an ONNX file; the same for a model and its quantised form.

    These do not count: scales and zero points, constants of one element, 64-bit integers (shapes and positions).
    """
    import onnx

    graph = onnx.load(str(onnx_file)).graph
    scales = {"QuantizeLinear": (1, 2), "DequantizeLinear": (1, 2), "MatMulInteger": (2, 3), "ConvInteger": (2, 3)}
    helpers = {node.input[i] for node in graph.node for i in scales.get(node.op_type, ()) if i < len(node.input)}
    # A dynamic range multiplies the scale into the result: that of the weight X_quantized is X_scale, one number a channel.
    helpers |= {
        f"{w.name.removesuffix('_quantized')}_scale" for w in graph.initializer if w.name.endswith("_quantized")
    }
    kept = [w for w in graph.initializer if w.name not in helpers and w.data_type != onnx.TensorProto.INT64]
    return sum(size for w in kept if (size := int(np.prod(w.dims))) > 1)
