"""The device and the precision of a training."""

from __future__ import annotations

import os

import torch
import torch.utils.deterministic
from accelerate import Accelerator

from compress import processes
from compress.runtime.errors import UserError

PRECISIONS = ("no", "bf16", "fp16")


def make_accelerator() -> Accelerator:
    """An accelerator of the GPU, or of the CPU if there is no GPU.

    It uses mixed precision (bf16) if the device has instructions for bf16, else fp32. The environment variable
    `ACCELERATE_MIXED_PRECISION` overrides this. `accelerate launch --mixed_precision` sets the variable.

    :raises UserError: the variable's value is not a precision, or this machine does not support it.
    """
    processes.connect()
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION")
    if asked and asked not in PRECISIONS:
        raise UserError(f"ACCELERATE_MIXED_PRECISION: {asked!r} is none of {', '.join(PRECISIONS)}")
    if asked == "fp16" and not torch.cuda.is_available():  # accelerate would use fp32 without a warning
        raise UserError("ACCELERATE_MIXED_PRECISION: fp16 needs a GPU, and torch sees none; take bf16 or no")
    if torch.cuda.is_available():
        _use_deterministic_kernels()
    return Accelerator(mixed_precision=asked or ("bf16" if _has_bf16() else "no"))


def _use_deterministic_kernels() -> None:
    """Make a GPU add in a fixed order, so that one seed always gives the same student, as on a CPU.

    This costs no time here. It also disables cuDNN's attention, which makes a new plan for every batch length. Making the
    plans took longer than the teacher's training. An operation without a deterministic kernel raises PyTorch's
    RuntimeError at the first step.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the first product is computed
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # all memory is written before it is read


def _has_bf16() -> bool:
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
