"""Runs a model of a bundle: token ids in, logits out. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from compress.runtime.encode import Encoded, TextEncoder
from compress.runtime.errors import UserError
from compress.runtime.session import open_session
from export.batching import GRAPH_INPUTS, Batch, BatchedModel, FloatArray, pad_to_power_of_two
from export.bundle import Bundle
from export.manifest import Cascade, ModelEntry
from export.tensorrt_session import TensorRtModel, check_graph


class OnnxModel(BatchedModel):
    """An ONNX classifier in ONNX Runtime, with a fixed number of threads.

    :param device: "cpu" or "cuda". The model never runs on another device.
    :param pad_up_to: pad every batch with `pad_to_power_of_two` to at most this many tokens. None: run batches as they are.
    :param profile: see `open_session`.
    :raises UserError: the file is not an ONNX model, ONNX Runtime has no provider for the device, or batches shall be padded and
        the graph has no attention mask.
    """

    def __init__(
        self,
        file: Path,
        *,
        threads: int = 1,
        device: str = "cpu",
        pad_up_to: int | None = None,
        profile: Path | None = None,
    ) -> None:
        try:
            self.session = open_session(str(file), threads=threads, device=device, profile=profile)
        except UserError:
            raise
        except Exception as error:  # the exception classes of ONNX Runtime are not public
            raise UserError(f"{file}: ONNX Runtime cannot load it ({str(error).splitlines()[0]})") from None
        self._pad_up_to = pad_up_to
        self._inputs = {node.name for node in self.session.get_inputs()}
        if pad_up_to is not None and "attention_mask" not in self._inputs:
            raise UserError(
                f"{file}: the graph is for a CPU, it takes no padding; choose another precision for {device}"
            )

    def logits(self, batch: Batch) -> FloatArray:
        """Compute the logits (B, C) of a padded batch from `pad_batch`.

        A graph without an attention mask gets the texts of each length on their own. A text without tokens counts as one of
        one padding token there.
        """
        if "attention_mask" in self._inputs or batch["attention_mask"].all():
            return self._run(batch)
        lengths = batch["attention_mask"].sum(axis=1)
        parts = [np.flatnonzero(lengths == length) for length in np.unique(lengths)]
        logits = [self._run({n: v[rows, : max(lengths[rows[0]], 1)] for n, v in batch.items()}) for rows in parts]
        return np.concatenate(logits)[np.argsort(np.concatenate(parts))]

    def _run(self, batch: Batch) -> FloatArray:
        rows = len(batch["input_ids"])
        if self._pad_up_to is not None:
            batch = pad_to_power_of_two(batch, self._pad_up_to)
        return self.session.run(None, {name: batch[GRAPH_INPUTS[name]] for name in self._inputs})[0][:rows]


def is_for(device: str, precision: str, model: ModelEntry) -> bool:
    """Whether a model of a bundle is made for a device: engines and fp16 for "cuda", the INT8 graph for "cpu", all others for both."""
    return precision != "int8" if device == "cuda" else model.engine is None and precision != "fp16"


def default_precision(bundle: Bundle, device: str, domain: str | None = None) -> str | None:
    """What answers on a device if no precision is asked for. None: the default of the bundle, which is chosen for a CPU.

    :param domain: see `BundleSession`.
    """
    if device == "cpu":
        return None
    models = bundle.parts[domain or bundle.manifest.default_domain].models
    return "fp16" if "fp16" in models and models["fp16"].passed else "fp32"


class ModelSession:
    """A model that reads texts and gives probabilities.

    :param temperature: divides the logits before the softmax, see `export.manifest.Calibration`.
    """

    def __init__(self, model: BatchedModel, encoder: TextEncoder, pad_token_id: int, temperature: float) -> None:
        self.model, self.encoder, self.pad_token_id, self.temperature = model, encoder, pad_token_id, temperature

    def predict(self, texts: Sequence[str], texts_b: Sequence[str] | None = None, batch_size: int = 32) -> FloatArray:
        """Compute the probabilities (N, C), in the order of the texts."""
        return self.probabilities(self.encoder.encode(texts, texts_b), batch_size)

    def probabilities(self, encoded: Sequence[Encoded], batch_size: int = 32) -> FloatArray:
        """Compute the calibrated probabilities (N, C), in the order of the texts."""
        return softmax(self.calibrated_logits(encoded, batch_size))

    def calibrated_logits(self, encoded: Sequence[Encoded], batch_size: int = 32) -> FloatArray:
        """Compute the logits (N, C) divided by the temperature: their softmax are the probabilities."""
        return self.logits(encoded, batch_size) / np.float32(self.temperature)

    def logits(self, encoded: Sequence[Encoded], batch_size: int = 32) -> FloatArray:
        """Compute the logits (N, C), in the order of the texts."""
        return self.model.logits_in_batches(encoded, self.pad_token_id, batch_size)


class BundleSession(ModelSession):
    """A bundle that is ready to classify: its tokenizer and its student of one precision.

    :param precision: a precision of the bundle. None: see `default_precision`. "tensorrt" runs the engine, on a GPU.
    :param domain: the domain whose student to use, in a bundle with a student for each domain. None: the default domain.
    :raises UserError: see `Bundle.model`, `OnnxModel` and `TensorRtModel`; or the model is an engine, and the device is the CPU or
        the engine was built from another bundle's graph.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        precision: str | None = None,
        threads: int = 1,
        device: str = "cpu",
        domain: str | None = None,
    ) -> None:
        self.manifest = bundle.manifest
        self.precision, entry = bundle.model(precision or default_precision(bundle, device, domain), domain)
        encoder = bundle.encoder()
        if entry.engine is None:
            model: BatchedModel = _open_model(bundle.directory / entry.file, self.manifest.max_length, threads, device)
        elif device == "cpu":
            of_cpu = ", ".join(n for n, m in self.manifest.models.items() if m.engine is None)
            raise UserError(
                f"precision {self.precision!r}: a TensorRT engine runs on a GPU; choose the device cuda, or a precision among {of_cpu}"
            )
        else:
            check_graph(bundle, entry, domain)
            model = TensorRtModel(bundle.directory / entry.file, entry.engine)
        super().__init__(model, encoder, self.manifest.pad_token_id, entry.temperature)


def teacher_session(
    directory: Path, cascade: Cascade, max_length: int, *, threads: int = 1, device: str = "cpu"
) -> ModelSession:
    """Open the teacher of a cascade.

    :param directory: of the bundle.
    :param max_length: the most tokens of a text.
    :raises UserError: see `OnnxModel`; or the teacher is in INT8, and the device is a GPU.
    """
    if device == "cuda" and cascade.precision == "int8":
        raise UserError(
            f"{directory}: the teacher of its cascade is in INT8, which runs on a CPU; turn the cascade off, or export with "
            'export.precisions = ["fp16"] for a GPU'
        )
    encoder = TextEncoder(directory / cascade.tokenizer, max_length)
    model = _open_model(directory / cascade.teacher.file, max_length, threads, device)
    return ModelSession(model, encoder, cascade.pad_token_id, cascade.teacher.temperature)


def _open_model(file: Path, max_length: int, threads: int, device: str) -> OnnxModel:
    pad_up_to = max_length if device == "cuda" else None
    return OnnxModel(file, threads=threads, device=device, pad_up_to=pad_up_to)


def softmax(logits: FloatArray) -> FloatArray:
    """Softmax over the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)
