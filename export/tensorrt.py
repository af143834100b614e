"""Builds TensorRT engines from explicit Q/DQ graphs, with the full `tensorrt` package or with `tensorrt-rtx`.

TensorRT 11 and RTX have no INT8 flag and no calibrator. Their networks are strongly typed, and INT8 comes from Q/DQ nodes
only. TensorRT for RTX builds for a given compute capability, without a GPU. The full package builds for the GPU in the machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from compress.runtime.errors import UserError
from export.batching import padded_length
from export.bundle import file_entry
from export.cuda import compute_capability as capability_of_this_gpu
from export.manifest import Engine, ShapeProfile
from export.tensorrt_session import load_tensorrt, make_log

MOST_TEXTS = 32  # in a batch; a power of two


def shape_profile(lengths: Sequence[int], max_length: int) -> ShapeProfile:
    """The shapes of an engine for texts of such lengths: fastest for one text as long as 95 % of them are at most.

    That length is padded as it will be when the engine runs.

    :param lengths: of some of the task's own texts, in tokens.
    :param max_length: the most tokens of a text. A batch may have 1 to `MOST_TEXTS` texts.
    """
    usual = int(np.percentile(lengths, 95, method="higher"))
    return ShapeProfile(
        smallest=(1, 1), optimal=(1, padded_length(usual, max_length)), largest=(MOST_TEXTS, max_length)
    )


def build_engine(graph: Path, target: Path, shapes: ShapeProfile, compute_capability: str) -> Engine:
    """Build an engine and write it to `target`.

    :param graph: Q/DQ ONNX file made with `quantize.TENSORRT_SCHEME`.
    :param shapes: of the batches, see `shape_profile`.
    :param compute_capability: the GPU to build for, e.g. "8.9".
    :returns: the package, version and GPU that the engine needs.
    :raises UserError: TensorRT refuses the graph, or cannot build for that GPU.
    """
    trt, package = load_tensorrt()
    log = make_log(trt)
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
    config.add_optimization_profile(_optimization_profile(builder, network, shapes))
    if package == "tensorrt-rtx":
        config.num_compute_capabilities = 1
        config.set_compute_capability(_capability(trt, compute_capability), 0)
    elif compute_capability != (found := capability_of_this_gpu()):
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
        shapes=shapes,
        graph_sha256=file_entry(graph).sha256,
    )


def engine_note(engine: Engine) -> str:
    """How an engine was made, for a manifest."""
    return f"{engine.package} {engine.version} for compute capability {engine.compute_capability}; not run where it was built"


def _optimization_profile(builder: Any, network: Any, shapes: ShapeProfile) -> Any:
    """The shapes (B, L) of each input."""
    profile = builder.create_optimization_profile()
    for i in range(network.num_inputs):
        profile.set_shape(network.get_input(i).name, shapes.smallest, shapes.optimal, shapes.largest)
    return profile


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
