"""Where a training computes, and in which precision."""

from __future__ import annotations

import os

import torch
import torch.utils.deterministic
from accelerate import Accelerator

from compress import processes
from compress.runtime.errors import UserError

PRECISIONS = ("no", "bf16", "fp16")


def make_accelerator() -> Accelerator:
    """An accelerator with mixed precision (bf16) where the GPU, or else the CPU, multiplies bf16 natively; fp32 elsewhere.

    `ACCELERATE_MIXED_PRECISION`, which `accelerate launch --mixed_precision` sets, decides where it is set.

    :raises UserError: the variable holds no precision, or one that this machine does not have.
    """
    processes.connect()
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION")
    if asked and asked not in PRECISIONS:
        raise UserError(f"ACCELERATE_MIXED_PRECISION: {asked!r} is none of {', '.join(PRECISIONS)}")
    if asked == "fp16" and not torch.cuda.is_available():  # accelerate would train in fp32 without a word
        raise UserError("ACCELERATE_MIXED_PRECISION: fp16 needs a GPU, and torch sees none; take bf16 or no")
    if torch.cuda.is_available():
        _use_deterministic_kernels()
    return Accelerator(mixed_precision=asked or ("bf16" if _has_bf16() else "no"))


def _use_deterministic_kernels() -> None:
    """Let a GPU add in a fixed order, so that one seed gives one student, as on a CPU.

    This costs nothing here. It rules out cuDNN's attention, which makes a new plan for every length of a batch: that took
    longer than the teacher's training. An operation without a deterministic kernel raises PyTorch's RuntimeError at the
    first step.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the first product is computed
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # none is read unwritten


def _has_bf16() -> bool:
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
