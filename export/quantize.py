"""INT8 graphs: static Q/DQ with ranges from training texts for CNNs, dynamic for transformers and LSTMs.

A CPU and TensorRT need different graphs. The layers that compute the logits stay in float.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
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
from export.scales import constants_to_initializers, simplify

CALIBRATION_BATCH = 16  # texts


@dataclass(frozen=True)
class Scheme:
    """One way to quantise a graph. `note` describes it in a manifest."""

    note: str
    operators: tuple[str, ...]
    method: CalibrationMethod | None  # sets the ranges of activations; None: dynamic ranges, computed for each batch
    activations: QuantType = QuantType.QUInt8
    options: dict[str, Any] = field(default_factory=dict)


_ALL = (
    "Conv",
    "Relu",
    "Gather",
    "Transpose",
    "Add",
    "Mul",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "Pad",
    "MatMul",
    "Gemm",
)
# The convolution kernels for x86 take U8 activations and S8 weights.
# Weights use 7 of their 8 bits (reduce_range). Without VNNI the kernels add pairs of products in 16 bits, and 8-bit weights
# saturate there. Then the same bundle would give different answers on different CPUs.
# A matrix product of two activations aligns the tokens of a pair. It stays in float, because a softmax follows and would
# increase the rounding error.
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
]
# The activations of a transformer have outliers, so a fixed range does not fit them. Dynamic ranges do. ONNX Runtime has fast
# kernels with dynamic ranges for matrix products and LSTMs, but not for convolutions.
_TENSORS = {
    "DefaultTensorType": onnx.TensorProto.FLOAT
}  # behind a fused attention, the quantiser does not know the type
FLOAT_EMBEDDINGS = Scheme(
    "dynamic U8×S8, per channel, embeddings in float", ("MatMul", "Gemm", "LSTM"), None, options=_TENSORS
)
_DYNAMIC = [Scheme("dynamic U8×S8, per channel", ("MatMul", "Gemm", "Gather", "LSTM"), None, options=_TENSORS)]


def cpu_schemes(model_type: str) -> list[Scheme]:
    """The schemes that quantise the whole graph of a kind of student for a CPU, in the order in which to try them.

    They are equally fast. If none is accurate enough, see `export.accuracy_control`.
    """
    return _CONVOLUTIONAL if model_type == "pocketbert_cnn" else _DYNAMIC


# TensorRT's parser takes symmetric S8 for activations and weights, no quantised biases, and a separate Q/DQ pair for each
# consumer. Only matrix products with a weight are quantised. The products of two activations in attention stay in float.
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


class _CalibrationBatches(CalibrationDataReader):
    """Calibration batches for a graph with these inputs.

    With an attention mask: batches of one shape, as the percentile method needs. The zeros of padding do not widen a range.
    Without one: texts alone. `one_shape` cuts them to the median of their lengths and leaves out the shorter ones.
    """

    def __init__(
        self, encoded: Sequence[Encoded], pad_token_id: int, inputs: list[str], *, one_shape: bool = False
    ) -> None:
        if "attention_mask" not in inputs:
            length = int(np.median([len(text) for text in encoded])) if one_shape else None
            kept = [text for text in encoded if length is None or len(text) >= length]
            alone = [
                {"input_ids": text.input_ids[None, :length], "segments": text.segments[None, :length]} for text in kept
            ]
            self._batches = iter([{name: text[name] for name in inputs} for text in alone])
            return
        padded = pad_batch(encoded, pad_token_id)
        padded["token_type_ids"] = padded["type_ids"]
        size = min(CALIBRATION_BATCH, len(encoded))
        starts = range(0, len(encoded) - size + 1, size)
        self._batches = iter([{n: padded[n][i : i + size] for n in inputs} for i in starts])

    _batches: Iterator[dict[str, NDArray[np.int64]]]

    def get_next(self) -> dict[str, NDArray[np.int64]] | None:
        return next(self._batches, None)


def quantize(source: Path, target: Path, scheme: Scheme, texts: Sequence[Encoded], pad_token_id: int) -> None:
    """Write an fp32 graph as INT8.

    :param texts: calibration texts from the training split. A dynamic scheme does not use them.
    """
    with TemporaryDirectory() as directory:
        prepared = Path(directory) / "prepared.onnx"
        prepare(source, prepared)
        quantize_prepared(prepared, target, scheme, texts, pad_token_id)


def prepare(source: Path, target: Path) -> None:
    """Write an fp32 graph as the quantiser needs it: constants folded, shapes inferred."""
    model = onnx.load(source)
    # A graph without a mask is optimised already. The optimiser would move the transposes of an `UnpaddedCnn`.
    laid_out = "attention_mask" not in _inputs(model.graph)
    if laid_out:
        constants_to_initializers(model)
    with _without_advice():
        quant_pre_process(model, str(target), skip_symbolic_shape=True, skip_optimization=laid_out)


def quantizable_nodes(prepared: Path, scheme: Scheme) -> list[str]:
    """The names of the nodes that a scheme quantises, in the order of the graph."""
    graph = onnx.load(prepared, load_external_data=False).graph
    in_float = set(output_layers(graph))
    nodes = [node for node in graph.node if node.op_type in scheme.operators and node.name]
    return [node.name for node in nodes if node.name not in in_float]


def quantize_prepared(
    prepared: Path,
    target: Path,
    scheme: Scheme,
    texts: Sequence[Encoded],
    pad_token_id: int,
    *,
    in_float: Collection[str] = (),
    only: Collection[str] = (),
) -> None:
    """Write a graph that `prepare` has made as INT8.

    :param in_float: nodes that stay in float, besides the output layers.
    :param only: quantise no other nodes than these. Empty: all nodes of the scheme.
    """
    reduce_range = scheme.activations == QuantType.QUInt8
    graph = onnx.load(prepared, load_external_data=False).graph
    exclude = _with_parts_of_gemms([*output_layers(graph), *in_float])
    with _without_advice():
        if scheme.method is None:
            quantize_dynamic(
                str(prepared),
                str(target),
                op_types_to_quantize=list(scheme.operators),
                per_channel=True,
                reduce_range=reduce_range,
                weight_type=QuantType.QInt8,
                nodes_to_quantize=_with_parts_of_gemms(only),
                nodes_to_exclude=exclude,
                extra_options=scheme.options,
            )
            return
        one_shape = scheme.method != CalibrationMethod.MinMax
        quantize_static(
            str(prepared),
            str(target),
            _CalibrationBatches(texts, pad_token_id, _inputs(graph), one_shape=one_shape),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(scheme.operators),
            per_channel=True,
            reduce_range=reduce_range,
            activation_type=scheme.activations,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=list(only),
            nodes_to_exclude=exclude,
            calibrate_method=scheme.method,
            extra_options=scheme.options,
        )
    if scheme.activations == QuantType.QUInt8:  # TensorRT takes the patterns of the quantiser only
        model = onnx.load(target)
        simplify(model)
        onnx.save(model, target)


def _with_parts_of_gemms(names: Collection[str]) -> list[str]:
    """The names, and those of the nodes that a dynamic scheme makes of a Gemm: it becomes a MatMul and an Add."""
    return [*names, *(f"{name}_MatMul" for name in names)]


def _inputs(graph: onnx.GraphProto) -> list[str]:
    return [node.name for node in graph.input]


def output_layers(graph: onnx.GraphProto) -> list[str]:
    """The names of the layers that compute the logits. They stay in float.

    They cost next to nothing. But the vector of a text has values of very different sizes, and a head that was fitted by
    logistic regression on a frozen encoder has large weights where these are small: one scale for all of them loses the answer.
    """
    makers = {name: node for node in graph.node for name in node.output}
    found: dict[str, None] = {}
    waiting, seen = [output.name for output in graph.output], set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in makers:
            continue
        seen.add(name)
        node = makers[name]
        if node.op_type in ("Gemm", "MatMul"):
            found[node.name] = None
        else:
            waiting.extend(node.input)
    return list(found)


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """Keep the advice of the quantiser off the terminal. `quantize` already follows it.

    Its errors too: it logs a full disk with a traceback, and raises it at the next file that it writes.
    """
    previous = logging.root.manager.disable
    logging.disable(logging.ERROR)
    onnxruntime.set_default_logger_severity(3)  # errors
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(previous)
        onnxruntime.set_default_logger_severity(2)  # the default of ONNX Runtime
