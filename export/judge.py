"""Makes a teacher an INT8 graph, with which it judges many texts sooner on a CPU."""

from __future__ import annotations

from pathlib import Path

from compress.teachers.judge import Int8Model
from export.session import OnnxModel


def int8_teacher(teacher: Path, file: Path, *, pair: bool, max_length: int) -> Int8Model:
    """See `compress.teachers.judge.Int8Teacher`. The embeddings stay in float: they cost no time, and rounding them costs accuracy.

    :raises UserError: the ONNX graph differs too much from PyTorch.
    """
    if not file.is_file():
        from export.int8 import export_int8
        from export.quantize import FLOAT_EMBEDDINGS

        export_int8(teacher, file, FLOAT_EMBEDDINGS, pair=pair, max_length=max_length)
    return OnnxModel(file, threads=1).logits
