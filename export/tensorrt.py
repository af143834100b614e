"""Builds TensorRT engines from explicit Q/DQ graphs, with the full `tensorrt` package or with `tensorrt-rtx`.

TensorRT 11 and RTX have no INT8 flag and no calibrator. Their networks are strongly typed, and INT8 comes from Q/DQ nodes
only. TensorRT for RTX builds for a given compute capability, without a GPU. The full package builds for the GPU in the machine.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

from compress.runtime.errors import UserError
from export.bundle import Engine, file_entry

PACKAGES = {"tensorrt": "tensorrt", "tensorrt_rtx_bindings": "tensorrt-rtx", "tensorrt_rtx": "tensorrt-rtx"}
CURE = "in the repository, pip install '.[rtx]' (builds without a GPU) or '.[gpu]' (full TensorRT, needs one)"


def load_tensorrt() -> tuple[ModuleType, str]:
    """Import TensorRT: the full package if it is installed, else TensorRT for RTX.

    :returns: the module and the name of its package.
    :raises UserError: neither is installed.
    """
    for module, package in PACKAGES.items():
        try:
            return importlib.import_module(module), package
        except ImportError:
            continue
    raise UserError(f"--target tensorrt: neither tensorrt nor tensorrt-rtx is installed; {CURE}")


def build_engine(graph: Path, target: Path, max_length: int, compute_capability: str) -> Engine:
    """Build an engine and write it to `target`.

    :param graph: Q/DQ ONNX file made with `quantize.TENSORRT_SCHEME`.
    :param max_length: the most tokens of a text. A batch may have 1 to 32 texts.
    :param compute_capability: the GPU to build for, e.g. "8.9".
    :returns: the package, version and GPU that the engine needs.
    :raises UserError: TensorRT refuses the graph, or cannot build for that GPU.
    """
    trt, package = load_tensorrt()
    log = _make_log(trt)
    try:
        builder = trt.Builder(log)
    except Exception as error:  # pybind11 passes on any exception of the library: no driver, no GPU
        raise UserError(
            f"{package}: no builder ({error}); the full TensorRT needs a GPU, tensorrt-rtx does not"
        ) from None
    network = builder.create_network(_strongly_typed_flag(trt))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(graph.read_bytes()):
        raise UserError(f"{graph.name}: {package} {trt.__version__} cannot parse it: {parser.get_error(0).desc()}")
    config = builder.create_builder_config()
    config.add_optimization_profile(_shape_profile(builder, network, max_length))
    if package == "tensorrt-rtx":
        config.num_compute_capabilities = 1
        config.set_compute_capability(_capability(trt, compute_capability), 0)
    elif compute_capability != (found := _capability_of_this_gpu()):
        raise UserError(
            f"export.compute_capability: tensorrt builds for the GPU it sees ({found}), not for {compute_capability}; use tensorrt-rtx"
        )
    serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        raise UserError(f"{graph.name}: {package} {trt.__version__} built no engine: {log.last_error}")
    target.write_bytes(bytes(serialized))
    return Engine(
        package=package,
        version=trt.__version__,
        compute_capability=compute_capability,
        graph_sha256=file_entry(graph).sha256,
    )


def _shape_profile(builder: Any, network: Any, max_length: int) -> Any:
    """The smallest, the optimal and the largest shape (B, L) of each input."""
    profile = builder.create_optimization_profile()
    for i in range(network.num_inputs):
        profile.set_shape(network.get_input(i).name, (1, 1), (1, min(64, max_length)), (32, max_length))
    return profile


def _make_log(trt: ModuleType) -> Any:
    class Log(trt.ILogger):  # type: ignore[name-defined]
        """Keeps the last error for the message to the user and prints nothing."""

        last_error = "no message"

        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                self.last_error = message

    return Log()


def _strongly_typed_flag(trt: ModuleType) -> int:
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _capability(trt: ModuleType, wanted: str) -> Any:
    name = "SM" + wanted.replace(".", "")
    known = {n: getattr(trt.ComputeCapability, n) for n in dir(trt.ComputeCapability) if n.startswith("SM")}
    if name not in known:
        names = ", ".join(sorted((f"{n[2:-1]}.{n[-1]}" for n in known), key=float))
        raise UserError(
            f"export.compute_capability: tensorrt-rtx {trt.__version__} does not build for {wanted}; it builds for {names}"
        )
    return known[name]


def _capability_of_this_gpu() -> str:
    import torch

    if not torch.cuda.is_available():
        raise UserError(
            "--target tensorrt: the full tensorrt package needs a GPU to build on; tensorrt-rtx builds without one"
        )
    return "{}.{}".format(*torch.cuda.get_device_capability())
