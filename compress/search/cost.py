"""What each operation costs where it will run: measured INT8 time in ONNX Runtime on this CPU, plus parameters.

The published table hardly separates zero (0.0944) from conv 7 (0.1076); measured, one is free and the other the dearest.
"""

from __future__ import annotations

import json
import math
import platform
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from compress.assets import cache_directory
from compress.options import SearchOptions
from compress.search.space import OPERATIONS
from compress.stages import fingerprint, write_json

CHAIN = 8  # copies of the operation in a row, so that the call into the runtime is a small part of a timing
ROUNDS = 100  # each of them times every operation once


def efficiency_loss(alpha: Tensor, depth: Tensor, costs: Tensor) -> Tensor:
    """L_E = (K / K_max) · mean over edges of Σ_ops p(op) · cost(op) (AdaBERT Eq. 7), in expectation over the depth K.

    The mean, where the paper has a sum, makes it the share of the costliest architecture's cost, in [0, 1].

    :param alpha: (E, O) logits.
    :param depth: (K_max,) logits.
    :param costs: (O,) in [0, 1].
    """
    cells = torch.arange(1, len(depth) + 1, device=depth.device, dtype=depth.dtype)
    expected_share = (torch.softmax(depth, dim=0) * cells).sum() / len(depth)
    return expected_share * (torch.softmax(alpha, dim=1) @ costs).mean()


def costs_of(options: SearchOptions, width: int, length: int) -> dict[str, float]:
    """The cost of each operation that a recipe asks for, in [0, 1]."""
    return operation_costs(width, length) if options.cost == "measured" else computed_costs(width)


def operation_costs(width: int, length: int) -> dict[str, float]:
    """Cost of each operation in [0, 1]: the mean of its normalised time at (1, width, length) and of its normalised size.

    Measured once for a machine and kept in the user's cache, so that two runs of a recipe see the same numbers.
    """
    key = {"cpu": _cpu_name(), "onnxruntime": onnxruntime.__version__, "width": width, "length": length, "format": 2}
    path = cache_directory() / "costs" / f"{fingerprint(key)[:16]}.json"
    try:
        times = json.loads(path.read_text())["microseconds"]
    except (FileNotFoundError, ValueError, KeyError):
        times = _measure(width, length)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, key | {"microseconds": times})
    sizes = {name: _kernel(name)[0] * width * width for name in OPERATIONS}
    slowest, largest = max(times.values()), max(sizes.values())
    return {name: round((times[name] / slowest + sizes[name] / largest) / 2, 4) for name in OPERATIONS}


def computed_costs(width: int) -> dict[str, float]:
    """The paper's cost (§3.2.2): normalised size plus normalised FLOPs, on any machine the same, in [0, 1].

    FLOPs are per position: 2·k·D² of a convolution of kernel k, 3·D of a pooling.
    """
    sizes = {name: _kernel(name)[0] * width * width for name in OPERATIONS}
    flops = {name: 2 * size + (3 * width if name.endswith("pool3") else 0) for name, size in sizes.items()}
    largest, dearest = max(sizes.values()), max(flops.values())
    return {name: round((sizes[name] / largest + flops[name] / dearest) / 2, 4) for name in OPERATIONS}


def _kernel(name: str) -> tuple[int, int]:
    """(kernel, dilation) of a convolution, (0, 1) of anything else."""
    for prefix, dilation in (("conv", 1), ("dilated", 2)):
        if name.startswith(prefix):
            return int(name.removeprefix(prefix)), dilation
    return 0, 1


def _measure(width: int, length: int) -> dict[str, float]:
    """Microseconds of each operation: the fastest of many calls of a chain of them.

    The operations take turns, so that a moment in which the machine is busy falls on all of them, and the fastest call is
    the one that nothing disturbed.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    free = ("zero", "identity")  # the runtime removes both
    sessions = {
        name: onnxruntime.InferenceSession(
            _chain(name, width, length).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        for name in OPERATIONS
        if name not in free
    }
    feed = {"x": np.random.default_rng(0).random((1, width, length), np.float32)}
    fastest = dict.fromkeys(sessions, math.inf)
    for _ in range(ROUNDS):
        for name, session in sessions.items():
            started = time.perf_counter_ns()
            session.run(None, feed)
            fastest[name] = min(fastest[name], (time.perf_counter_ns() - started) / 1000 / CHAIN)
    return {name: round(fastest.get(name, 0.0), 2) for name in OPERATIONS}


def _chain(name: str, width: int, length: int) -> onnx.ModelProto:
    """X → Q → (operation → Q/DQ) × CHAIN, U8 activations and S8 weights, as the exporter writes them."""
    constants = [
        numpy_helper.from_array(np.float32(0.02), "scale"),
        numpy_helper.from_array(np.uint8(0), "zero"),
    ]
    nodes = [helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q0"])]
    kernel, dilation = _kernel(name)
    if kernel:
        weight = np.random.default_rng(1).integers(-64, 64, (width, width, kernel), dtype=np.int8)
        constants += [
            numpy_helper.from_array(weight, "weight"),
            numpy_helper.from_array(np.float32(0.01), "weight_scale"),
            numpy_helper.from_array(np.int8(0), "weight_zero"),
        ]
    for i in range(CHAIN):
        nodes.append(helper.make_node("DequantizeLinear", [f"q{i}", "scale", "zero"], [f"x{i}"]))
        if kernel:
            padding = dilation * (kernel - 1) // 2
            nodes.append(helper.make_node("DequantizeLinear", ["weight", "weight_scale", "weight_zero"], [f"w{i}"]))
            attributes = {"kernel_shape": [kernel], "pads": [padding, padding], "dilations": [dilation]}
            nodes.append(helper.make_node("Conv", [f"x{i}", f"w{i}"], [f"c{i}"], **attributes))
            nodes.append(helper.make_node("Relu", [f"c{i}"], [f"y{i}"]))
        else:
            kind = "MaxPool" if name == "max_pool3" else "AveragePool"
            nodes.append(helper.make_node(kind, [f"x{i}"], [f"y{i}"], kernel_shape=[3], pads=[1, 1]))
        nodes.append(helper.make_node("QuantizeLinear", [f"y{i}", "scale", "zero"], [f"q{i + 1}"]))
    nodes.append(helper.make_node("DequantizeLinear", [f"q{CHAIN}", "scale", "zero"], ["y"]))
    shape = [1, width, length]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)]
    graph = helper.make_graph(nodes, name, inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
        return f"{model} {fingerprint(next(line for line in lines if line.startswith('flags')))[:8]}"
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
