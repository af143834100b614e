"""Writes a student as an fp32 ONNX graph with dynamic batch size and length, and compares it with PyTorch."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

import compress.students  # noqa: F401 - registers the student classes with the Auto classes
from compress.runtime.errors import UserError
from compress.training.evaluation import takes_segments, takes_types
from export.attention import attention_to_export, remove_reshapes
from export.first_token import first_token_only
from export.session import OnnxModel
from export.unpadded import UnpaddedCnn, takes_unpadded

OPSET = 17
PARITY_SHAPES = [(1, 5), (1, 17), (2, 32), (5, 61), (8, 128)]  # (batch, length)
TOLERANCE = 1e-4  # of a logit; PyTorch and ONNX Runtime add fp32 numbers in different orders


class _PositionalInputs(nn.Module):
    """A student with positional inputs and a tensor as its output. The ONNX exporter requires both."""

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.student = student

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}  # not every model has them
        return self.student(input_ids=input_ids, attention_mask=attention_mask, **types).logits


class _UnpaddedTransformer(nn.Module):
    """As `_PositionalInputs`, for texts of one length."""

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.student = student

    def forward(self, input_ids: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        return self.student(input_ids=input_ids, **types).logits


def _unpadded(student: nn.Module, max_length: int) -> nn.Module:
    """A student without a mask, if its kind can do without."""
    if takes_unpadded(student):
        return UnpaddedCnn(student, max_length)
    return _PositionalInputs(student) if takes_segments(student) else _UnpaddedTransformer(student)


def _simplify(file: Path) -> None:
    """Take out of the graph of a transformer what the exporter leaves in."""
    graph = onnx.load(file)
    remove_reshapes(graph)
    first_token_only(graph)
    onnx.save(graph, file)


def export_onnx(student_directory: Path, file: Path, *, pair: bool, max_length: int, for_int8: bool = False) -> float:
    """Write the student as ONNX: int64 inputs (B, L), float32 `logits` (B, C).

    :param pair: whether the student reads pairs. Then its third input is `segments` (our own students) or `token_type_ids`
        (a Hugging Face model with token types), see `OnnxModel`.
    :param max_length: the most tokens of a text.
    :param for_int8: write the graph from which the INT8 graph for a CPU is made. Those of convolutional students and of transformers
        have no attention mask: `OnnxModel` never pads their texts.
    :returns: the largest difference of a logit between ONNX Runtime and PyTorch over `PARITY_SHAPES`, with padding.
    :raises UserError: the difference is more than `TOLERANCE`.
    """
    student = AutoModelForSequenceClassification.from_pretrained(student_directory).eval()
    if hasattr(student, "fold"):
        student.fold()
    model = (_unpadded(student, max_length) if for_int8 else _PositionalInputs(student)).eval()
    names = ["input_ids", *(["attention_mask"] if isinstance(model, _PositionalInputs) else [])]
    if pair and takes_segments(student):
        names.append("segments")
    elif pair and takes_types(student):
        names.append("token_type_ids")
    ids, mask, second = _example(2, min(24, max_length), student.config.vocab_size)
    example = {"input_ids": ids, "attention_mask": mask, "segments": second, "token_type_ids": second}
    axes = {name: {0: "batch", 1: "length"} for name in names} | {"logits": {0: "batch"}}
    fused = isinstance(model, _UnpaddedTransformer)
    with warnings.catch_warnings(), attention_to_export(student, fused=fused):
        warnings.simplefilter("ignore")
        # The tracing exporter is used because torch.export (2.13) makes the length constant after a max-pooling.
        torch.onnx.export(
            model,
            tuple(example[name] for name in names),
            str(file),
            input_names=names,
            output_names=["logits"],
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
    if fused:
        _simplify(file)
    difference = parity(_PositionalInputs(student), file, names, student.config.vocab_size, max_length)
    if not difference <= TOLERANCE:
        raise UserError(
            f"{file.name}: ONNX differs from PyTorch by {difference:.2g} (allowed {TOLERANCE:g}); please report this student"
        )
    return difference


def parity(model: nn.Module, file: Path, names: list[str], vocab_size: int, max_length: int) -> float:
    """The largest difference of a logit between PyTorch and ONNX Runtime over `PARITY_SHAPES`.

    :param model: takes ids, mask and, for a pair, token types.
    :param names: the inputs of the graph.
    """
    onnx_model = OnnxModel(file)
    worst = 0.0
    for batch, longest in PARITY_SHAPES:
        length = min(longest, max_length)
        ids, mask, second = _example(batch, length, vocab_size)
        pair = names[-1] in ("segments", "token_type_ids")
        with torch.inference_mode():
            expected = model(ids, mask, second if pair else None).numpy()
        types = second.numpy() if pair else np.zeros((batch, length), np.int64)
        arrays = {"input_ids": ids.numpy(), "attention_mask": mask.numpy(), "type_ids": types, "segments": types}
        worst = max(worst, float(np.abs(onnx_model.logits(arrays) - expected).max()))
    return worst


def _example(batch: int, length: int, vocab_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random ids, mask and token types (B, L). Every text but the first is padded. The second text starts at the middle."""
    generator = torch.Generator().manual_seed(batch * 1000 + length)
    ids = torch.randint(0, vocab_size, (batch, length), generator=generator)
    positions = torch.arange(length).expand(batch, length)
    lengths = torch.tensor([max(2, length - 3 * row) for row in range(batch)])[:, None]
    mask = (positions < lengths).long()
    second = ((positions >= lengths // 2) & (positions < lengths)).long()
    return ids, mask, second
