"""The engines that are compared: one small class per way of running a classifier."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from bench.inputs import Texts
from compress.runtime.encode import TextEncoder, pad_batch
from export.bundle import Bundle
from export.session import BundleSession, FloatArray, OnnxModel

Batch = dict[str, NDArray[np.int64]]


class EngineSpec(BaseModel):
    """All that a fresh process needs to open one engine."""

    model_config = ConfigDict(frozen=True)

    name: str  # what --only and --skip call it
    title: str  # what tables and plots call it
    family: Literal["bert", "teacher", "student"]
    runtime: Literal["torch", "onnx", "bundle"]
    path: Path  # a checkpoint directory, an .onnx file or a bundle
    precision: str  # fp32, bf16, int8, or the bundle's own name of a model
    compiled: bool = False  # torch.compile
    tokenizer: Path
    pad_token_id: int
    max_length: int  # tokens
    scored: bool  # its weights were trained for the task, so its accuracy means something
    note: str = ""


class Model(Protocol):
    """A loaded classifier."""

    file_bytes: int

    def logits(self, batch: Batch) -> FloatArray:
        """Logits (B, C), in the host's memory, of a padded batch from `pad_batch`."""
        ...

    def parameters(self) -> int | None:
        """Number of weights; None where the file does not tell (a TensorRT engine)."""
        ...


class Engine:
    """A tokenizer and a model: texts in, logits out.

    :raises UserError: a file is missing or broken, or the device is not there.
    """

    def __init__(self, spec: EngineSpec, *, threads: int, device: str) -> None:
        self.spec = spec
        self.encoder = TextEncoder(spec.tokenizer, spec.max_length)
        self.model = _open_model(spec, threads, device)

    def encode(self, texts: Texts) -> Batch:
        """Tokenise and pad to the longest: arrays (B, L)."""
        return pad_batch(self.encoder.encode(texts.first, texts.second), self.spec.pad_token_id)

    def logits(self, batch: Batch) -> FloatArray:
        """Logits (B, C), in the host's memory."""
        return self.model.logits(batch)


class TorchModel:
    """A Hugging Face checkpoint in PyTorch, eager or compiled."""

    def __init__(self, spec: EngineSpec, threads: int, device: str) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification

        torch.set_num_threads(threads)
        self._torch, self._device = torch, device
        if device == "cuda":
            # It plans anew for every length that it has not seen, some 50 ms on an H200; served texts have many.
            torch.backends.cuda.enable_cudnn_sdp(False)
        dtype = torch.bfloat16 if spec.precision == "bf16" else torch.float32
        model = AutoModelForSequenceClassification.from_pretrained(spec.path, dtype=dtype).eval().to(device)
        self._accepted = set(inspect.signature(model.forward).parameters)
        self._parameters = sum(p.numel() for p in model.parameters())
        self._model: Any = torch.compile(model, dynamic=True) if spec.compiled else model
        self.file_bytes = sum(
            file.stat().st_size for pattern in ("*.safetensors", "*.bin") for file in spec.path.glob(pattern)
        )

    def logits(self, batch: Batch) -> FloatArray:
        """Logits (B, C). The copy to the host waits for the device, so that a timing around this call is whole."""
        named = {
            "input_ids": batch["input_ids"],
            "attention_mask": batch["attention_mask"],
            "token_type_ids": batch["type_ids"],
        }
        with self._torch.inference_mode():
            feed = {
                name: self._torch.from_numpy(array).to(self._device)
                for name, array in named.items()
                if name in self._accepted
            }
            return self._model(**feed).logits.float().cpu().numpy()

    def parameters(self) -> int:
        """Number of weights."""
        return self._parameters


class BertOnnxModel:
    """A BERT exported to ONNX, in ONNX Runtime."""

    def __init__(self, spec: EngineSpec, threads: int, device: str) -> None:
        self._file = spec.path
        self._model = OnnxModel(spec.path, threads=threads, device=device)
        self.file_bytes = spec.path.stat().st_size

    def logits(self, batch: Batch) -> FloatArray:
        """Logits (B, C)."""
        return self._model.logits(batch)

    def parameters(self) -> int:
        """Number of weights."""
        return count_weights(self._file)


class BundleModel:
    """One model of a bundle, run as the server runs it."""

    def __init__(self, spec: EngineSpec, threads: int, device: str) -> None:
        bundle = Bundle(spec.path)
        _, entry = bundle.model(spec.precision)
        self._onnx_file = spec.path / entry.file if entry.runtime == "onnxruntime" else None
        self._model = BundleSession(bundle, precision=spec.precision, threads=threads, device=device).model
        self.file_bytes = (spec.path / entry.file).stat().st_size

    def logits(self, batch: Batch) -> FloatArray:
        """Logits (B, C)."""
        return self._model.logits(batch)

    def parameters(self) -> int | None:
        """Number of weights; None for a TensorRT engine."""
        return count_weights(self._onnx_file) if self._onnx_file else None


def _open_model(spec: EngineSpec, threads: int, device: str) -> Model:
    kinds: dict[str, type[TorchModel | BertOnnxModel | BundleModel]]
    kinds = {"torch": TorchModel, "onnx": BertOnnxModel, "bundle": BundleModel}
    return kinds[spec.runtime](spec, threads, device)


def count_weights(onnx_file: Path) -> int:
    """Number of weights in an ONNX file, the same for a model and its quantised form.

    Scales and zero points, one-element constants and 64-bit integers (shapes, positions) are no weights.
    """
    import onnx

    graph = onnx.load(str(onnx_file)).graph
    scales = {"QuantizeLinear": (1, 2), "DequantizeLinear": (1, 2), "MatMulInteger": (2, 3), "ConvInteger": (2, 3)}
    helpers = {node.input[i] for node in graph.node for i in scales.get(node.op_type, ()) if i < len(node.input)}
    kept = [w for w in graph.initializer if w.name not in helpers and w.data_type != onnx.TensorProto.INT64]
    return sum(size for w in kept if (size := int(np.prod(w.dims))) > 1)
