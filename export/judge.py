"""Makes a teacher an INT8 graph, with which it judges many texts sooner on a CPU."""

from __future__ import annotations

import os
from pathlib import Path

from compress.teachers.judge import Int8Model
from export.session import OnnxModel


def int8_teacher(teacher: Path, file: Path, *, pair: bool, max_length: int) -> Int8Model:
    """See `compress.teachers.judge.Int8Teacher`. The embeddings stay in float: they cost no time, and rounding them costs accuracy.

    :raises UserError: the ONNX graph differs too much from PyTorch.
    """
    if not file.is_file():
        fp32, temporary = file.with_suffix(".fp32.onnx"), file.with_suffix(".tmp.onnx")
        export_teacher(teacher, fp32, temporary, pair=pair, max_length=max_length)
        fp32.unlink()
        os.replace(temporary, file)
    return OnnxModel(file, threads=1).logits


def export_teacher(teacher: Path, fp32: Path, int8: Path, *, pair: bool, max_length: int) -> float:
    """Write a teacher's graphs to `fp32` and `int8`.

    :returns: see `export_onnx`.
    :raises UserError: the ONNX graph differs too much from PyTorch.
    """
    from export.onnx import export_onnx
    from export.quantize import FLOAT_EMBEDDINGS, quantize

    difference = export_onnx(teacher, fp32, pair=pair, max_length=max_length)
    quantize(fp32, int8, FLOAT_EMBEDDINGS, [], 0)
    return difference
