"""ONNX Runtime on a CPU or a GPU, never on another device than the one asked for. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.runtime.errors import UserError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
# Which cuDNN kernel a convolution gets is asked anew for every shape; by default all of them are run to find out.
PROVIDER_OPTIONS: dict[str, dict[str, str]] = {"cpu": {}, "cuda": {"cudnn_conv_algo_search": "HEURISTIC"}}


def check_device(device: str) -> None:
    """Whether this ONNX Runtime knows the device; whether it can start it shows when a session is opened.

    :raises UserError: it does not.
    """
    import onnxruntime

    if PROVIDERS[device] not in onnxruntime.get_available_providers():
        raise UserError(
            f"device {device!r}: this ONNX Runtime has no {PROVIDERS[device]}; in the repository, pip install '.[gpu]' in place of '.[cpu]'"
        )


def open_session(model: str | bytes, *, threads: int = 1, device: str = "cpu") -> InferenceSession:
    """A session over an ONNX file, or the bytes of one, with a pinned number of threads.

    :param device: "cpu" or "cuda".
    :raises UserError: this ONNX Runtime lacks the device's provider, or cannot start it. What it raises for a file that is
        no model is not part of its public API, and passes.
    """
    import onnxruntime

    check_device(device)
    provider = PROVIDERS[device]
    if device == "cuda":
        onnxruntime.preload_dlls()  # CUDA and cuDNN as pip installs them, with torch or alone; the loader does not look there
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads  # ORT reads the host's core count otherwise, even in a container
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=[(provider, PROVIDER_OPTIONS[device])])
    if session.get_providers()[0] != provider:
        raise UserError(
            f"device {device!r}: ONNX Runtime fell back to {session.get_providers()[0]}; check the CUDA libraries"
        )
    return session
