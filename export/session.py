"""Running a bundle's model: token ids in, logits out. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.runtime.encode import Encoded, TextEncoder, pad_batch
from compress.runtime.errors import UserError
from compress.runtime.session import open_session
from export.bundle import Bundle

FloatArray = NDArray[np.float32]
SHORTEST = 16  # tokens; the least that `few_shapes` fills a text up to


class OnnxModel:
    """An ONNX classifier in ONNX Runtime, with a pinned number of threads.

    :param device: "cpu" or "cuda"; never anything else than what was asked for.
    :param longest: fill batches up, see `few_shapes`, to no more than so many tokens; by default they are run as they come.
    :raises UserError: the file is no ONNX model, or the device's provider is missing.
    """

    def __init__(self, file: Path, *, threads: int = 1, device: str = "cpu", longest: int | None = None) -> None:
        try:
            self.session = open_session(str(file), threads=threads, device=device)
        except UserError:
            raise
        except Exception as error:  # ORT's exception classes are not part of its public API
            raise UserError(f"{file}: ONNX Runtime cannot load it ({str(error).splitlines()[0]})") from None
        self._longest = longest
        self._inputs = {node.name for node in self.session.get_inputs()}

    def logits(self, batch: dict[str, NDArray[np.int64]]) -> FloatArray:
        """Logits (B, C) of a padded batch from `pad_batch`."""
        rows = len(batch["input_ids"])
        if self._longest is not None:
            batch = few_shapes(batch, self._longest)
        feed = {
            "input_ids": batch["input_ids"],
            "attention_mask": batch["attention_mask"],
            "token_type_ids": batch["type_ids"],
            "segments": batch["segments"],
        }
        return self.session.run(None, {name: value for name, value in feed.items() if name in self._inputs})[0][:rows]

    def logits_of(self, encoded: Sequence[Encoded], pad_token_id: int, batch_size: int = 32) -> FloatArray:
        """Logits (N, C) in the order given; texts of similar length share a batch, so that little of it is padding."""
        order = np.argsort([len(e) for e in encoded], kind="stable")
        parts = []
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            parts.append(self.logits(pad_batch([encoded[i] for i in rows], pad_token_id)))
        return np.concatenate(parts)[np.argsort(order, kind="stable")]


def few_shapes(batch: dict[str, NDArray[np.int64]], longest: int) -> dict[str, NDArray[np.int64]]:
    """The batch (B, L) filled up to powers of two, with copies of its last text and with padding, for what is slow at a new shape.

    On a GPU a student's convolutions cost ten milliseconds at a shape that they have not seen, and half a one at any other.

    :param longest: the most tokens that the model takes.
    """
    rows, length = batch["input_ids"].shape
    wider = max(length, min(longest, max(SHORTEST, _power_of_two(length))))
    fill = ((0, _power_of_two(rows) - rows), (0, 0)), ((0, 0), (0, wider - length))
    return {name: np.pad(np.pad(values, fill[0], mode="edge"), fill[1]) for name, values in batch.items()}


def _power_of_two(number: int) -> int:
    """The least that is not smaller."""
    return 1 << (number - 1).bit_length()


class BundleSession:
    """A bundle ready to classify: tokenizer and model of one precision.

    :param precision: one of the bundle's, default its `default`.
    :param domain: whose student, where each domain has its own; by default that of `default_domain`.
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
        self.precision, entry = bundle.model(precision, domain)
        self.encoder = TextEncoder(bundle.tokenizer_file, self.manifest.max_length)
        if entry.runtime == "tensorrt":
            raise UserError(
                f"precision {self.precision!r} is a TensorRT engine; serving runs ONNX Runtime models only, "
                f"choose among {', '.join(n for n, m in self.manifest.models.items() if m.runtime == 'onnxruntime')}"
            )
        longest = self.manifest.max_length if device == "cuda" else None
        self.model = OnnxModel(bundle.directory / entry.file, threads=threads, device=device, longest=longest)

    def predict(self, texts: Sequence[str], texts_b: Sequence[str] | None = None, batch_size: int = 32) -> FloatArray:
        """Probabilities (N, C), in the order of the texts."""
        return softmax(self.logits(self.encoder.encode(texts, texts_b), batch_size))

    def logits(self, encoded: Sequence[Encoded], batch_size: int = 32) -> FloatArray:
        """Logits (N, C), in the order of the texts."""
        return self.model.logits_of(encoded, self.manifest.pad_token_id, batch_size)


def softmax(logits: FloatArray) -> FloatArray:
    """Softmax over the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)
