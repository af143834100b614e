"""Opens ONNX Runtime sessions on the CPU or the GPU, and never on another device than the given one. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from compress.runtime.errors import UserError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
# cuDNN chooses a kernel for each new shape of a convolution. By default ORT runs all kernels to find the fastest.
PROVIDER_OPTIONS: dict[str, dict[str, str]] = {"cpu": {}, "cuda": {"cudnn_conv_algo_search": "HEURISTIC"}}
# On a CPU a sum and its LayerNormalization take 68 µs for 128 × 384 numbers, and fused to one node 293 µs (ONNX Runtime 1.32, AVX2).
SLOW_FUSIONS: dict[str, list[str]] = {"cpu": ["SkipLayerNormFusion"], "cuda": []}


def check_device(device: str) -> None:
    """Check that the installed ONNX Runtime has a provider for the device. Only `open_session` shows if the device works.

    :raises UserError: it has none.
    """
    import onnxruntime

    if PROVIDERS[device] not in onnxruntime.get_available_providers():
        raise UserError(
            f"device {device!r}: this ONNX Runtime has no {PROVIDERS[device]}; in the repository, pip install '.[gpu]' in place of '.[cpu]'"
        )


def open_session(
    model: str | bytes, *, threads: int = 1, device: str = "cpu", profile: Path | None = None
) -> InferenceSession:
    """Open a session with a fixed number of threads.

    :param model: the path of an ONNX file, or its bytes.
    :param device: "cpu" or "cuda".
    :param profile: how the path of the profile begins that ONNX Runtime writes. None: it writes none.
    :raises UserError: the installed ONNX Runtime has no provider for the device, or cannot start it.
    :raises Exception: the model cannot be loaded. The exception classes of ONNX Runtime are not public.
    """
    import onnxruntime

    check_device(device)
    provider = PROVIDERS[device]
    if device == "cuda":
        onnxruntime.preload_dlls()  # finds CUDA and cuDNN where pip installs them, with or without torch
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads  # the default is the number of the host's cores, even in a container
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    session = onnxruntime.InferenceSession(
        model, options, providers=[(provider, PROVIDER_OPTIONS[device])], disabled_optimizers=SLOW_FUSIONS[device]
    )
    if session.get_providers()[0] != provider:
        raise UserError(
            f"device {device!r}: ONNX Runtime fell back to {session.get_providers()[0]}; check the CUDA libraries"
        )
    return session
