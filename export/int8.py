"""From the checkpoint of a BERT to its INT8 graph for a CPU: of teachers, and of the models that students are compared with."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from export.onnx import export_onnx
from export.quantize import Scheme, quantize


def export_int8(checkpoint: Path, file: Path, scheme: Scheme, *, pair: bool, max_length: int) -> None:
    """Write a checkpoint of transformers as INT8. A run that is killed leaves no part of the file.

    :param scheme: one with dynamic ranges.
    :raises UserError: the ONNX graph differs too much from PyTorch.
    """
    with TemporaryDirectory(dir=file.parent, prefix=".") as directory:
        source, made = Path(directory) / "source.onnx", Path(directory) / file.name
        export_onnx(checkpoint, source, pair=pair, max_length=max_length, for_int8=True)
        quantize(source, made, scheme, [], 0)
        os.replace(made, file)
