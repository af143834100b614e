"""Where the time of a model goes: ONNX Runtime's own profile, node by node of the graph that it runs. No torch, no onnx."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from compress.runtime.encode import Encoded, pad_batch
from export.session import OnnxModel

LENGTH = 128  # tokens of the text that is timed, unless the model takes fewer
SECONDS, LEAST_RUNS = 0.2, 4  # a model is run this long, and this often at least
CONVERSIONS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
INT8_TYPES = {"int8", "uint8"}
FLOAT_TYPES = {"float": "fp32", "float16": "fp16", "bfloat16": "bf16"}


@dataclass(frozen=True)
class OperatorShare:
    """The nodes of one kind and precision in the graph that runs."""

    operator: str
    precision: str  # int8, fp32, fp16, bf16; conversion: between int8 and float; integer: of shapes and ids
    nodes: int
    share: float  # of the model's time


@dataclass(frozen=True)
class Profile:
    """Where the time of one text of `LENGTH` tokens goes, on one CPU thread. The profiler itself adds to each node."""

    operators: list[OperatorShare]  # the slowest first

    @property
    def nodes(self) -> int:
        """The nodes of the graph after ONNX Runtime's optimisation."""
        return sum(one.nodes for one in self.operators)

    @property
    def conv_share(self) -> float:
        """The share of the time that is spent in convolutions."""
        return round(sum(one.share for one in self.operators if "Conv" in one.operator), 4)


def profile_model(file: Path, max_length: int, pad_token_id: int, vocabulary: int) -> Profile:
    """Run an ONNX file on random tokens for about `SECONDS`.

    :param vocabulary: number of tokens.
    :raises UserError: ONNX Runtime cannot load the file.
    """
    length = min(LENGTH, max_length)
    ids = np.random.default_rng(0).integers(0, vocabulary, length)
    segments = (np.arange(length) >= length // 2).astype(np.int64)
    batch = pad_batch([Encoded(ids, segments, segments)], pad_token_id)
    with TemporaryDirectory() as directory:
        model = OnnxModel(file, profile=Path(directory) / "profile")
        started, runs = time.perf_counter(), 0
        while runs < LEAST_RUNS or time.perf_counter() - started < SECONDS:
            model.logits(batch)
            runs += 1
        events = json.loads(Path(model.session.end_profiling()).read_text(encoding="utf-8"))
    return _summary(
        [event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")]
    )


def _summary(events: list[dict[str, Any]]) -> Profile:
    """The events of all runs → a row for each kind of node."""
    durations, kinds = defaultdict[str, list[int]](list), dict[str, tuple[str, str]]()
    for event in events:
        node = event["args"]["node_index"]
        durations[node].append(event["dur"])
        kinds[node] = (event["args"]["op_name"], _precision(event["args"]))
    # Other programs make some runs slower. The faster half of the runs of a node tells what it costs.
    times = {node: fmean(sorted(found)[: (len(found) + 1) // 2]) for node, found in durations.items()}
    total = sum(times.values()) or 1.0
    rows = [
        OperatorShare(*kind, len(nodes), round(sum(times[node] for node in nodes) / total, 4))
        for kind in sorted(set(kinds.values()))
        if (nodes := [node for node in kinds if kinds[node] == kind])
    ]
    return Profile(sorted(rows, key=lambda row: -row.share))


def _precision(event: dict[str, Any]) -> str:
    """The arithmetic of a node, from the types of its inputs."""
    if event["op_name"] in CONVERSIONS:
        return "conversion"
    types = [kind for one in event["input_type_shape"] for kind in one]
    if INT8_TYPES & set(types):
        return "int8"
    return next((FLOAT_TYPES[kind] for kind in types if kind in FLOAT_TYPES), "integer")
