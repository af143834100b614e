"""Runs a TensorRT engine of a bundle on a GPU, through the API of TensorRT itself. No torch.

The first batch of a shape (B, L) is slow. Later ones replay a CUDA graph, so the processor launches one piece of work instead of
a kernel for each layer. TensorRT for RTX records that graph itself. For the full package it is recorded here, with the copies
to and from the GPU in it. NVIDIA's developer guide forbids to change an execution context from which a graph was recorded, so
each shape has its own.
"""

from __future__ import annotations

import ctypes
import importlib
import math
import threading
import weakref
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from compress.runtime.errors import UserError
from export import cuda
from export.batching import GRAPH_INPUTS, Batch, BatchedModel, FloatArray, pad_to_power_of_two
from export.bundle import MANIFEST, Bundle
from export.manifest import Engine, ModelEntry

PACKAGES = {"tensorrt": "tensorrt", "tensorrt_rtx_bindings": "tensorrt-rtx", "tensorrt_rtx": "tensorrt-rtx"}
CURE = "in the repository, pip install '.[rtx]' (builds without a GPU) or '.[gpu]' (full TensorRT, needs one)"
DISTRIBUTIONS = {
    "tensorrt": "tensorrt=={version}",
    "tensorrt-rtx": "tensorrt-rtx-cu13-libs=={version} tensorrt-rtx-cu13-bindings=={version}",
}
AGAIN = "export the bundle again with --target tensorrt"


def load_tensorrt(wanted: str | None = None) -> tuple[ModuleType, str]:
    """Import TensorRT.

    :param wanted: one of the packages in `PACKAGES`. None: the full one if it is installed, else TensorRT for RTX.
    :returns: the module and the name of its package.
    :raises UserError: it is not installed.
    """
    for module, package in PACKAGES.items():
        if wanted in (None, package):
            try:
                return importlib.import_module(module), package
            except ImportError:
                continue
    raise UserError(f"TensorRT: {wanted or 'neither tensorrt nor tensorrt-rtx'} is not installed; {CURE}")


def make_log(trt: ModuleType) -> Any:
    """A log for TensorRT. It keeps the last error, in `last_error`, and prints nothing."""

    class Log(trt.ILogger):  # type: ignore[name-defined]
        last_error = "no message"

        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                self.last_error = message

    return Log()


def check_graph(bundle: Bundle, entry: ModelEntry, domain: str | None) -> None:
    """Check that the graph from which an engine was built is in the bundle.

    :param domain: whose engine it is. None: that of the only student, or of the default domain.
    :raises UserError: it is not.
    """
    part = bundle.parts.get(domain, bundle.manifest)
    graphs = {bundle.manifest.files[model.file].sha256 for model in part.models.values() if model.engine is None}
    if entry.engine is not None and entry.engine.graph_sha256 not in (None, *graphs):
        raise UserError(
            f"{bundle.directory / entry.file}: this engine was built from a graph that is not in the bundle: it is another "
            "bundle's; export the bundle again"
        )


def check_machine(file: Path, engine: Engine) -> ModuleType:
    """Check that this machine has the TensorRT and the kind of GPU that an engine needs.

    :returns: the module of TensorRT.
    :raises UserError: the package is missing or has another version, or the GPU has another compute capability.
    """
    trt, package = load_tensorrt(engine.package)
    if trt.__version__ != engine.version:
        raise UserError(
            f"{file}: built by {package} {engine.version}, and here is {trt.__version__}; build it again: {_rebuild(file)}, "
            f"or pip install {DISTRIBUTIONS[package].format(version=engine.version)}"
        )
    if (found := cuda.compute_capability()) != engine.compute_capability:
        raise UserError(
            f"{file}: built for GPUs of compute capability {engine.compute_capability}, and this one has {found}; "
            f"build it again: {_rebuild(file)}"
        )
    return trt


def _rebuild(file: Path) -> str:
    """The command that builds the engines of a file's bundle again, for this machine."""
    bundle = next((parent for parent in file.parents if (parent / MANIFEST).is_file()), file.parent)
    return f"`pocketbert rebuild {bundle}`"


class TensorRtModel(BatchedModel):
    """An engine on the first GPU that this process sees. Any thread may call it; one runs at a time.

    :param engine: what the manifest says about the file.
    :raises UserError: see `check_machine`, or TensorRT cannot load the file.
    """

    def __init__(self, file: Path, engine: Engine) -> None:
        self._trt, self._name = check_machine(file, engine), file.name
        self._most_texts, self._longest = engine.shapes.largest
        log = make_log(self._trt)
        self._runtime = self._trt.Runtime(log)  # has to live as long as the engine
        self._engine = self._runtime.deserialize_cuda_engine(file.read_bytes())
        if self._engine is None:
            raise UserError(f"{file}: {engine.package} cannot load it ({log.last_error}); {AGAIN}")
        self._lock = threading.Lock()
        self._shapes: dict[tuple[int, int], _Shape] = {}

    def logits(self, batch: Batch) -> FloatArray:
        """Compute the logits (B, C) of a padded batch from `pad_batch`.

        The batch is padded with `pad_to_power_of_two`; one with more texts than the engine takes is run in parts.

        :raises UserError: a text is longer than the engine takes, or CUDA reports an error.
        """
        starts = range(0, len(batch["input_ids"]), self._most_texts)
        with self._lock:
            parts = [self._run({n: v[start : start + self._most_texts] for n, v in batch.items()}) for start in starts]
        return np.concatenate(parts)

    def _run(self, batch: Batch) -> FloatArray:
        rows = len(batch["input_ids"])
        batch = pad_to_power_of_two(batch, self._longest)
        shape = batch["input_ids"].shape
        if shape[1] > self._longest:
            raise UserError(f"{self._name}: takes {self._longest} tokens at most, not {shape[1]}; {AGAIN}")
        if shape not in self._shapes:
            self._shapes[shape] = _Shape(self._trt, self._engine, shape)
        return self._shapes[shape].run(batch)[:rows]


class _Shape:
    """All that one shape (B, L) of a batch needs: buffers here and on the GPU, an execution context, a CUDA graph."""

    def __init__(self, trt: ModuleType, engine: Any, shape: tuple[int, int]) -> None:
        self._context = _context(trt, engine)
        self._stream = cuda.call("cudaStreamCreate")
        self._graph: Any = None
        self._cleanup = [("cudaStreamDestroy", self._stream)]
        weakref.finalize(self, _release, self._cleanup).atexit = False  # the end of a process frees all
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        for name in inputs:
            if not self._context.set_input_shape(name, shape):
                raise UserError(f"the engine does not take batches of shape {shape}; {AGAIN}")
        self._arrays, self._addresses = {}, {}
        for name in names:
            dtype = np.dtype(trt.nptype(engine.get_tensor_dtype(name)))
            self._arrays[name], self._addresses[name] = self._buffers(
                tuple(self._context.get_tensor_shape(name)), dtype
            )
            self._context.set_tensor_address(name, self._addresses[name])
        self._inputs, (self._output,) = inputs, [name for name in names if name not in inputs]
        if not hasattr(trt, "CudaGraphStrategy"):
            self._record()

    def run(self, batch: Batch) -> FloatArray:
        """Compute the logits (B, C)."""
        for name in self._inputs:
            self._arrays[name][...] = batch[GRAPH_INPUTS[name]]
        if self._graph is None:
            self._enqueue()
        else:
            cuda.call("cudaGraphLaunch", self._graph, self._stream)
        cuda.call("cudaStreamSynchronize", self._stream)
        return self._arrays[self._output].astype(np.float32)  # a copy: the next batch overwrites the buffer

    def _buffers(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[np.ndarray[Any, Any], int]:
        """An array of zeros in memory that the GPU can copy from and to by itself, and the address of its twin on the GPU."""
        size = math.prod(shape) * dtype.itemsize
        here = cuda.call("cudaHostAlloc", size, 0)
        self._cleanup.append(("cudaFreeHost", here))
        there = cuda.call("cudaMalloc", size)
        self._cleanup.append(("cudaFree", there))
        array = np.frombuffer(memoryview((ctypes.c_byte * size).from_address(here)), dtype).reshape(shape)
        array[...] = 0
        return array, there

    def _enqueue(self) -> None:
        """Put the copies and the kernels of one batch into the stream."""
        for name in self._inputs:
            self._copy(self._addresses[name], self._arrays[name].ctypes.data, name, "cudaMemcpyHostToDevice")
        if not self._context.execute_async_v3(int(self._stream)):
            raise UserError(f"TensorRT cannot run the engine; {AGAIN}")
        self._copy(
            self._arrays[self._output].ctypes.data,
            self._addresses[self._output],
            self._output,
            "cudaMemcpyDeviceToHost",
        )

    def _copy(self, target: int, source: int, name: str, kind: str) -> None:
        kinds = cuda.cuda_runtime().cudaMemcpyKind
        cuda.call("cudaMemcpyAsync", target, source, self._arrays[name].nbytes, getattr(kinds, kind), self._stream)

    def _record(self) -> None:
        """Record the work of one batch as a CUDA graph."""
        self._enqueue()  # TensorRT makes its last preparations for a shape in the first run; they cannot be recorded
        cuda.call("cudaStreamSynchronize", self._stream)
        mode = cuda.cuda_runtime().cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        cuda.call("cudaStreamBeginCapture", self._stream, mode)
        self._enqueue()
        recorded = cuda.call("cudaStreamEndCapture", self._stream)
        self._graph = cuda.call("cudaGraphInstantiate", recorded, 0)
        self._cleanup.append(("cudaGraphExecDestroy", self._graph))
        cuda.call("cudaGraphDestroy", recorded)


def _context(trt: ModuleType, engine: Any) -> Any:
    """An execution context. That of TensorRT for RTX records and replays CUDA graphs by itself."""
    if hasattr(trt, "CudaGraphStrategy"):
        config = engine.create_runtime_config()
        config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        context = engine.create_execution_context(config)
    else:
        context = engine.create_execution_context()
    if context is None:
        raise UserError("TensorRT cannot prepare the engine for running; is there enough GPU memory?")
    return context


def _release(cleanup: list[tuple[str, Any]]) -> None:
    """Give back what a shape held, the last thing first. Errors are of no use to anybody then."""
    for name, argument in reversed(cleanup):
        getattr(cuda.cuda_runtime(), name)(argument)
