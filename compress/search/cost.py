"""The cost of each operation: its number of parameters and its time in ONNX Runtime, INT8 on this CPU or fp32 on this GPU.

The costs are measured because the published table hardly separates the cheapest operation from the most expensive one:
zero has 0.0944 there, conv 7 has 0.1076.
"""

from __future__ import annotations

import json
import math
import platform
import time
from itertools import accumulate
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from compress.data.assets import cache_directory
from compress.data.files import fingerprint, write_json
from compress.recipe.sections import SearchOptions
from compress.runtime.session import open_session
from compress.students.genotype import OPERATIONS

CHAIN = 8  # copies of the operation in one graph, so that the overhead of a call is a small part of the time
ROUNDS = 100  # every operation is timed once per round


def depth_shares(max_cells: int, halvings: int) -> list[float]:
    """The share of the positions of all K_max cells that the first K cells have, for each K from 1. An operation costs as many.

    Without halvings it is K / K_max, as in AdaBERT (Eq. 7).

    :param halvings: cells, from the first, that see half of the positions of the one before.
    """
    positions = [0.5 ** min(cell, halvings) for cell in range(1, max_cells + 1)]
    return [share / sum(positions) for share in accumulate(positions)]


def efficiency_loss(alpha: Tensor, depth: Tensor, costs: Tensor, halvings: int = 0) -> Tensor:
    """L_E = (K / K_max) · mean over edges of Σ_ops p(op) · cost(op) (AdaBERT Eq. 7), in expectation over the depth K.

    The paper has a sum over the edges. The mean makes L_E the share of the costliest architecture's cost, in [0, 1].

    :param alpha: (E, O) logits.
    :param depth: (K_max,) logits.
    :param costs: (O,) in [0, 1].
    :param halvings: see `depth_shares`, which then stand for K / K_max.
    """
    shares = torch.tensor(depth_shares(len(depth), halvings), device=depth.device, dtype=depth.dtype)
    expected_share = (torch.softmax(depth, dim=0) * shares).sum()
    return expected_share * (torch.softmax(alpha, dim=1) @ costs).mean()


def costs_of(options: SearchOptions, width: int, length: int) -> dict[str, float]:
    """The cost of each operation, in [0, 1], measured or computed as the recipe says.

    :raises UserError: the recipe measures on a GPU, and this ONNX Runtime cannot use one.
    """
    if options.cost == "computed":
        return computed_costs(width)
    return operation_costs(width, length, "cuda" if options.cost == "measured-gpu" else "cpu")


def operation_costs(width: int, length: int, device: str = "cpu") -> dict[str, float]:
    """Measured cost of each operation, in [0, 1]: the mean of its normalised time and of its normalised size.

    The times are measured once per machine and kept in the user's cache, so two runs of a recipe get the same costs.
    On a GPU the time is in fp32, because INT8 does not make a student faster there.

    :param width: channels D of the input (1, D, L).
    :param length: positions L of the input.
    :param device: "cpu" or "cuda".
    :raises UserError: this ONNX Runtime cannot use the device.
    """
    key: dict[str, str | int] = {**machine(), "width": width, "length": length, "format": 3}
    if device == "cuda":
        key["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "unknown to torch"
    path = cache_directory() / "costs" / f"{fingerprint(key)[:16]}.json"
    times = _kept(path)
    if times is None:
        measured = _measure(width, length, device)
        times = _kept(path) or measured  # another run may have been first, and both shall have the same
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, key | {"microseconds": times})
    sizes = {name: _kernel(name)[0] * width * width for name in OPERATIONS}
    slowest, largest = max(times.values()), max(sizes.values())
    return {name: round((times[name] / slowest + sizes[name] / largest) / 2, 4) for name in OPERATIONS}


def machine() -> dict[str, str]:
    """What decides the times on a CPU, to keep them under."""
    return {"cpu": _cpu_name(), "onnxruntime": onnxruntime.__version__}


def _kept(path: Path) -> dict[str, float] | None:
    try:
        return cast("dict[str, float]", json.loads(path.read_text())["microseconds"])
    except (FileNotFoundError, ValueError, KeyError):
        return None


def computed_costs(width: int) -> dict[str, float]:
    """The paper's cost (§3.2.2), in [0, 1]: the mean of normalised size and normalised FLOPs, the same on every machine.

    FLOPs are per position: 2·k·D² for a convolution with kernel k, 3·D for a pooling.
    """
    sizes = {name: _kernel(name)[0] * width * width for name in OPERATIONS}
    flops = {name: 2 * size + (3 * width if name.endswith("pool3") else 0) for name, size in sizes.items()}
    largest, most = max(sizes.values()), max(flops.values())
    return {name: round((sizes[name] / largest + flops[name] / most) / 2, 4) for name in OPERATIONS}


def _kernel(name: str) -> tuple[int, int]:
    """(kernel, dilation) of a convolution; (0, 1) for any other operation."""
    for prefix, dilation in (("conv", 1), ("dilated", 2)):
        if name.startswith(prefix):
            return int(name.removeprefix(prefix)), dilation
    return 0, 1


def _measure(width: int, length: int, device: str) -> dict[str, float]:
    """Microseconds of each operation: what the fastest call of a chain of it takes longer than that of a chain of identities.

    The operations take turns, so other load on the machine slows all of them alike. The fastest call is the one with
    the least disturbance.
    """
    sessions: dict[str, Any] = {
        name: open_session(_chain(name, width, length, int8=device == "cpu").SerializeToString(), device=device)
        for name in OPERATIONS
        if name != "zero"
    }
    feed = {"x": np.random.default_rng(0).random((1, width, length), np.float32)}
    fastest = dict.fromkeys(sessions, math.inf)
    for _ in range(ROUNDS):
        for name, session in sessions.items():
            started = time.perf_counter_ns()
            session.run(None, feed)
            fastest[name] = min(fastest[name], (time.perf_counter_ns() - started) / 1000 / CHAIN)
    nothing = fastest["identity"]
    return {name: round(max(fastest.get(name, nothing) - nothing, 0.0), 2) for name in OPERATIONS}


def _chain(name: str, width: int, length: int, *, int8: bool) -> onnx.ModelProto:
    """The ONNX graph x → convolution → (operation, and its input is added) × CHAIN → y.

    In INT8 it has the form that the exporter writes, with U8 activations and S8 weights: DQ → operation → Q → DQ → Add → Q. The
    convolution before and the additions are there because ONNX Runtime then keeps the channels last, as it does in a student.
    A maximum over three positions takes a tenth of the time so.
    """
    graph = _Graph(name, width, int8)
    value = graph.quantize("x") if int8 else "x"
    first = value = graph.quantized(graph.convolution(graph.real(value), "entrance"))
    for _ in range(CHAIN):
        result = (
            graph.real(value) if name == "identity" else graph.real(graph.quantized(graph.operation(graph.real(value))))
        )
        value = graph.quantized(graph.add("Add", [result, graph.real(first)]))
    graph.add("DequantizeLinear" if int8 else "Identity", [value, *(("scale", "zero") if int8 else ())], "y")
    shape = [1, width, length]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)]
    made = helper.make_graph(graph.nodes, name, inputs, outputs, graph.constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


class _Graph:
    """Nodes and constants of a chain of one operation."""

    def __init__(self, name: str, width: int, int8: bool) -> None:
        self.name, self.int8 = name, int8
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.kernel, self.dilation = _kernel(name)
        if int8:
            self._constant("scale", np.float32(0.02))
            self._constant("zero", np.uint8(0))
            self._constant("weight_scale", np.float32(0.01))
            self._constant("weight_zero", np.int8(0))
        self._weight("entrance", width, 1)
        if self.kernel:
            self._weight("weight", width, self.kernel)

    def add(self, kind: str, inputs: list[str], output: str = "", **attributes: object) -> str:
        """Add a node; returns the name of its output."""
        output = output or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def quantize(self, value: str) -> str:
        return self.add("QuantizeLinear", [value, "scale", "zero"])

    def quantized(self, value: str) -> str:
        """The value as it goes to the next node: in INT8 quantised."""
        return self.quantize(value) if self.int8 else value

    def real(self, value: str) -> str:
        """What `quantized` gave, as a node computes with it."""
        return self.add("DequantizeLinear", [value, "scale", "zero"]) if self.int8 else value

    def operation(self, value: str) -> str:
        if self.kernel:
            return self.convolution(value, "weight", self.kernel, self.dilation)
        kind = "MaxPool" if self.name == "max_pool3" else "AveragePool"
        return self.add(kind, [value], kernel_shape=[3], pads=[1, 1])

    def convolution(self, value: str, weight: str, kernel: int = 1, dilation: int = 1) -> str:
        if self.int8:
            weight = self.add("DequantizeLinear", [weight, "weight_scale", "weight_zero"])
        padding = dilation * (kernel - 1) // 2
        shape: dict[str, Any] = {"kernel_shape": [kernel], "pads": [padding, padding], "dilations": [dilation]}
        return self.add("Relu", [self.add("Conv", [value, weight], **shape)])

    def _weight(self, name: str, width: int, kernel: int) -> None:
        weight = np.random.default_rng(1).integers(-64, 64, (width, width, kernel), dtype=np.int8)
        self._constant(name, weight if self.int8 else weight.astype(np.float32) * np.float32(0.01))

    def _constant(self, name: str, value: np.ndarray | np.generic) -> None:
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
        return f"{model} {fingerprint(next(line for line in lines if line.startswith('flags')))[:8]}"
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
