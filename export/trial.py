"""Exports an untrained student once, so that trouble with its export is met before its training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from compress.runtime.encode import Encoded
from export.session import OnnxModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def trial_export(student: PreTrainedModel, texts: Sequence[Encoded], *, pair: bool, max_length: int) -> None:
    """See `compress.pipeline.preflight.TrialExport`."""
    from export.onnx import export_onnx
    from export.quantize import cpu_schemes, quantize

    with TemporaryDirectory() as name:
        directory = Path(name)
        student.save_pretrained(directory / "student")
        fp32, int8 = directory / "fp32.onnx", directory / "int8.onnx"
        export_onnx(directory / "student", fp32, pair=pair, max_length=max_length, for_int8=True)
        pad = student.config.pad_token_id or 0
        quantize(fp32, int8, cpu_schemes(student.config.model_type)[0], texts, pad)
        OnnxModel(int8).logits_in_batches(texts, pad)
