"""fp16 graphs for ONNX Runtime on a GPU."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16

NOTE = "fp16 weights and states, fp32 logits; for a GPU, its answers are measured on a CPU, which rounds to fp16 at each node"


def to_fp16(fp32: Path, target: Path) -> None:
    """Write an fp32 graph in fp16. Its inputs and outputs keep their types."""
    onnx.save(convert_float_to_float16(onnx.load(fp32), keep_io_types=True), target)
