"""INT8 graphs: static Q/DQ calibrated on training texts, dynamic for transformers and LSTMs; the CPU's rules and TensorRT's differ."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from compress.runtime.encode import Encoded, pad_batch

BATCH = 16


@dataclass(frozen=True)
class Scheme:
    """One way to quantise a graph; `note` describes it in a manifest."""

    note: str
    operators: tuple[str, ...]
    method: CalibrationMethod | None  # of the activations' ranges; None: found anew for every text, when it runs
    activations: QuantType = QuantType.QUInt8
    options: dict[str, Any] = field(default_factory=dict)


_ALL = ("Conv", "Gather", "Transpose", "Add", "Mul", "MaxPool", "MatMul", "Gemm")
# U8 activations × S8 weights is what convolution kernels on x86 are written for. Tried in this order until one passes
# the gate. Weights keep 7 of their 8 bits (reduce_range): without VNNI the kernels add pairs of products in 16 bits and
# saturate on full-range weights, so an 8-bit bundle measured on one CPU would answer differently on another.
# The products that align a pair's tokens have no weight and stay in float: a softmax magnifies their rounding.
_NO_ALIGNMENT = {"MatMulConstBOnly": True}
_CONVOLUTIONAL = [
    Scheme(
        "static U8×S8 Q/DQ, per channel, min-max ranges", _ALL, CalibrationMethod.MinMax, options=dict(_NO_ALIGNMENT)
    ),
    Scheme(
        "static U8×S8 Q/DQ, per channel, 99.99 percentile ranges",
        _ALL,
        CalibrationMethod.Percentile,
        options={"CalibPercentile": 99.99, **_NO_ALIGNMENT},
    ),
    Scheme(
        "static U8×S8 Q/DQ, convolutions only, embeddings and sums in float",
        ("Conv",),
        CalibrationMethod.MinMax,
    ),
]
# A transformer's activations have outliers that no fixed range serves; matrix products and LSTMs, unlike convolutions, have
# fast kernels with ranges found as they run.
_DYNAMIC = [
    Scheme("dynamic U8×S8, per channel", ("MatMul", "Gemm", "Gather", "LSTM"), None),
    Scheme("dynamic U8×S8, per channel, embeddings in float", ("MatMul", "Gemm", "LSTM"), None),
]


def cpu_schemes(model_type: str) -> list[Scheme]:
    """The ways to quantise such a student for a CPU, the one to try first in front."""
    return _CONVOLUTIONAL if model_type == "pocketbert_cnn" else _DYNAMIC


# TensorRT's parser takes symmetric S8 on both sides, no quantised biases, and a Q/DQ pair of its own for each consumer.
# Of matrix products only those with a weight are quantised: attention's own products of two activations stay in float.
TENSORRT_SCHEME = Scheme(
    "explicit S8×S8 Q/DQ, convolutions and linear layers, per channel, min-max ranges",
    ("Conv", "MatMul"),
    CalibrationMethod.MinMax,
    QuantType.QInt8,
    {
        "ActivationSymmetric": True,
        "WeightSymmetric": True,
        "QuantizeBias": False,
        "DedicatedQDQPair": True,
        "MatMulConstBOnly": True,
    },
)


class _Texts(CalibrationDataReader):
    """Calibration batches of one shape, which the percentile method needs; the padding's zeros are in every range anyway."""

    def __init__(self, encoded: Sequence[Encoded], pad_token_id: int, inputs: list[str]) -> None:
        padded = pad_batch(encoded, pad_token_id)
        padded["token_type_ids"] = padded["type_ids"]
        size = min(BATCH, len(encoded))
        starts = range(0, len(encoded) - size + 1, size)
        self._batches: Iterator[dict[str, NDArray[np.int64]]] = iter(
            [{n: padded[n][i : i + size] for n in inputs} for i in starts]
        )

    def get_next(self) -> dict[str, NDArray[np.int64]] | None:
        return next(self._batches, None)


def quantize(source: Path, target: Path, scheme: Scheme, texts: Sequence[Encoded], pad_token_id: int) -> None:
    """Write the INT8 form of an fp32 graph.

    :param texts: calibration texts, from the training split; a dynamic scheme does without.
    """
    prepared = target.with_suffix(".prepared.onnx")
    reduce_range = scheme.activations == QuantType.QUInt8
    try:
        with _quiet():
            quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
            if scheme.method is None:
                quantize_dynamic(
                    str(prepared),
                    str(target),
                    op_types_to_quantize=list(scheme.operators),
                    per_channel=True,
                    reduce_range=reduce_range,
                    weight_type=QuantType.QInt8,
                    extra_options=scheme.options,
                )
                return
            inputs = [node.name for node in onnx.load(prepared, load_external_data=False).graph.input]
            quantize_static(
                str(prepared),
                str(target),
                _Texts(texts, pad_token_id, inputs),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(scheme.operators),
                per_channel=True,
                reduce_range=reduce_range,
                activation_type=scheme.activations,
                weight_type=QuantType.QInt8,
                calibrate_method=scheme.method,
                extra_options=scheme.options,
            )
    finally:
        prepared.unlink(missing_ok=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantiser's advice, which is followed here, off the terminal."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    onnxruntime.set_default_logger_severity(3)  # errors
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(previous)
        onnxruntime.set_default_logger_severity(2)  # its own default
