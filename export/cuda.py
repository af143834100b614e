"""Calls of the CUDA runtime through the package `cuda-bindings`. No torch."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from compress.runtime.errors import UserError


def cuda_runtime() -> ModuleType:
    """The module `cuda.bindings.runtime`.

    :raises UserError: the package is not installed.
    """
    try:
        from cuda.bindings import runtime
    except ImportError:
        raise UserError(
            "TensorRT on a GPU: cuda-bindings is not installed; in the repository, pip install '.[gpu]' or '.[rtx]'"
        ) from None
    return runtime


def call(name: str, *arguments: Any) -> Any:
    """Call a function of the CUDA runtime.

    :returns: what the function gives besides its status: one value, or None.
    :raises UserError: CUDA reports an error.
    """
    cuda = cuda_runtime()
    status, *values = getattr(cuda, name)(*arguments)
    if status != cuda.cudaError_t.cudaSuccess:
        raise UserError(
            f"CUDA: {name}: {status.name}; is there an NVIDIA GPU with memory left, and does nvidia-smi show it?"
        )
    return values[0] if values else None


def compute_capability() -> str:
    """The compute capability of the first GPU that this process sees, such as "8.9".

    :raises UserError: there is no GPU, or `cuda-bindings` is missing.
    """
    attributes = cuda_runtime().cudaDeviceAttr
    wanted = (attributes.cudaDevAttrComputeCapabilityMajor, attributes.cudaDevAttrComputeCapabilityMinor)
    return ".".join(str(call("cudaDeviceGetAttribute", attribute, 0)) for attribute in wanted)
