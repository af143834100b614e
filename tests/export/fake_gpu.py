"""A GPU and a TensorRT of plain memory: device memory is memory of the process, and an engine is its ONNX graph in ONNX Runtime.

They check how the exporter uses the two: shapes, copies, order, graphs per shape, what is given back. They say nothing about NVIDIA's.
"""

# ruff: noqa: N802, N815 - the names are NVIDIA's

from __future__ import annotations

import ctypes
from collections.abc import Callable
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime


class Status(IntEnum):
    cudaSuccess = 0
    cudaErrorNoDevice = 100


class FakeCuda:
    """The functions of the CUDA runtime that are used. `held` is what has not been given back."""

    cudaError_t = Status
    cudaDeviceAttr = SimpleNamespace(cudaDevAttrComputeCapabilityMajor=8, cudaDevAttrComputeCapabilityMinor=9)
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)

    def __init__(self) -> None:
        self.held: dict[int, Any] = {}
        self.recording: list[Callable[[], None]] | None = None
        self.launched = 0  # CUDA graphs

    def hold(self, thing: Any, key: int | None = None) -> int:
        key = len(self.held) + 1_000 + id(thing) if key is None else key
        self.held[key] = thing
        return key

    def submit(self, work: Callable[[], None]) -> None:
        """Do the work, or only write it down while a graph is recorded."""
        if self.recording is None:
            work()
        else:
            self.recording.append(work)

    def cudaDeviceGetAttribute(self, attribute: int, device: int) -> tuple[Status, int]:
        return Status.cudaSuccess, attribute

    def cudaStreamCreate(self) -> tuple[Status, int]:
        return Status.cudaSuccess, self.hold(object())

    def cudaMalloc(self, size: int) -> tuple[Status, int]:
        memory = (ctypes.c_byte * size)()
        return Status.cudaSuccess, self.hold(memory, ctypes.addressof(memory))

    def cudaHostAlloc(self, size: int, flags: int) -> tuple[Status, int]:
        return self.cudaMalloc(size)

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: int, stream: int) -> tuple[Status]:
        self.submit(lambda: ctypes.memmove(target, source, size) and None)
        return (Status.cudaSuccess,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[Status]:
        assert self.recording is None, "CUDA forbids to wait for a stream that is recorded"
        return (Status.cudaSuccess,)

    def cudaStreamBeginCapture(self, stream: int, mode: int) -> tuple[Status]:
        self.recording = []
        return (Status.cudaSuccess,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[Status, int]:
        recorded, self.recording = self.recording, None
        return Status.cudaSuccess, self.hold(recorded)

    def cudaGraphInstantiate(self, graph: int, flags: int) -> tuple[Status, int]:
        return Status.cudaSuccess, self.hold(list(self.held[graph]))

    def cudaGraphLaunch(self, graph: int, stream: int) -> tuple[Status]:
        self.launched += 1
        for work in self.held[graph]:
            work()
        return (Status.cudaSuccess,)

    def give_back(self, key: int) -> tuple[Status]:
        del self.held[key]
        return (Status.cudaSuccess,)

    cudaFree = cudaFreeHost = cudaStreamDestroy = cudaGraphDestroy = cudaGraphExecDestroy = give_back


class FakeTensorRt:
    """The part of TensorRT's Python API that is used. Its engines are ONNX files.

    :param rtx: have the CUDA graphs that only TensorRT for RTX has.
    """

    __version__ = "1.2.3"
    TensorIOMode = SimpleNamespace(INPUT=1, OUTPUT=2)

    class ILogger:
        pass

    def __init__(self, cuda: FakeCuda, *, rtx: bool) -> None:
        self.cuda = cuda
        if rtx:
            self.CudaGraphStrategy = SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole graph")

    def Runtime(self, log: Any) -> Any:
        def load(content: bytes) -> FakeEngine | None:
            try:
                return FakeEngine(onnxruntime.InferenceSession(content), self.cuda)
            except Exception as error:
                log.last_error = str(error)
                return None

        return SimpleNamespace(deserialize_cuda_engine=load)

    def nptype(self, dtype: str) -> type:
        return {"tensor(int64)": np.int64, "tensor(float)": np.float32}[dtype]


class FakeEngine:
    def __init__(self, session: onnxruntime.InferenceSession, cuda: FakeCuda) -> None:
        self.session, self.cuda = session, cuda
        self.tensors = {node.name: node for node in [*session.get_inputs(), *session.get_outputs()]}
        self.num_io_tensors = len(self.tensors)
        self.configs: list[Any] = []

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_mode(self, name: str) -> int:
        return 1 if name in {node.name for node in self.session.get_inputs()} else 2

    def get_tensor_dtype(self, name: str) -> str:
        return str(self.tensors[name].type)

    def create_runtime_config(self) -> Any:
        return SimpleNamespace()

    def create_execution_context(self, config: Any = None) -> FakeContext:
        self.configs.append(config)
        return FakeContext(self)


class FakeContext:
    def __init__(self, engine: FakeEngine) -> None:
        self.engine, self.shape, self.addresses = engine, (0, 0), dict[str, int]()
        self.recorded = False

    def set_input_shape(self, name: str, shape: tuple[int, int]) -> bool:
        assert not self.recorded, "TensorRT forbids to change a context from which a graph was recorded"
        self.shape = shape
        return shape[0] <= 32

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shape if self.engine.get_tensor_mode(name) == 1 else (self.shape[0], 2)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        self.recorded = self.recorded or self.engine.cuda.recording is not None
        self.engine.cuda.submit(self.run)
        return True

    def run(self) -> None:
        arrays = {}
        for name, address in self.addresses.items():
            shape = self.get_tensor_shape(name)
            kind = ctypes.c_int64 if self.engine.get_tensor_mode(name) == 1 else ctypes.c_float
            arrays[name] = np.ctypeslib.as_array((kind * int(np.prod(shape))).from_address(address)).reshape(shape)
        inputs = [node.name for node in self.engine.session.get_inputs()]
        (output,) = [name for name in arrays if name not in inputs]
        arrays[output][...] = self.engine.session.run(None, {name: arrays[name] for name in inputs})[0]
