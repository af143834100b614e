"""The outputs of a frozen teacher for a student's training texts, on disk.

The file names the texts by their fingerprint, so that the outputs cannot be used with other texts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from compress.data.batches import EncodedSplit, SoftTargets
from compress.data.corpus import UNLABELLED
from compress.data.tensor_files import load_tensors

FILE = "outputs.safetensors"
DEV_FILE = "dev.safetensors"  # the teacher's outputs on dev, for choosing a student's best epoch
TOKENS_FILE = "tokens.safetensors"  # what it makes of each token alone, for a student's first word embeddings


@dataclass(frozen=True)
class TeacherOutputs:
    """A teacher's outputs for N texts, in the order of the texts."""

    texts: str  # `EncodedSplit.fingerprint` of the texts
    targets: SoftTargets
    weights: Tensor | None = None  # (N,): a meta-teacher's expertise weights

    def save(self, directory: Path, file: str = FILE) -> None:
        """Write them to `file` in the directory."""
        tensors = {"logits": self.targets.logits, "probes": self.targets.probes, "weights": self.weights}
        present = {name: tensor.contiguous() for name, tensor in tensors.items() if tensor is not None}
        save_file(present, directory / file, {"texts": self.texts})

    @classmethod
    def load(cls, directory: Path, file: str = FILE) -> TeacherOutputs:
        """Read what `save` wrote."""
        tensors, metadata = load_tensors(directory / file)
        return cls(metadata["texts"], SoftTargets(tensors["logits"], tensors.get("probes")), tensors.get("weights"))

    def attach(self, texts: EncodedSplit) -> EncodedSplit:
        """The texts with the teacher's outputs. A text without a label gets the label that the teacher predicts.

        :raises ValueError: the outputs belong to other texts.
        """
        if texts.fingerprint != self.texts:
            raise ValueError("these teacher's outputs belong to other texts, or to the same texts in another order")
        predicted = self.targets.logits.argmax(dim=1)
        labels = torch.where(texts.labels == UNLABELLED, predicted, texts.labels)
        return replace(texts, labels=labels, teacher=self.targets, weights=self.weights)


def save_token_vectors(vectors: Tensor, directory: Path) -> None:
    """Write one vector for each token of the vocabulary, (V, d), in half precision."""
    save_file({"vectors": vectors.half().contiguous()}, directory / TOKENS_FILE)


def load_token_vectors(directory: Path) -> Tensor:
    """What `save_token_vectors` wrote, (V, d)."""
    tensors, _ = load_tensors(directory / TOKENS_FILE)
    return tensors["vectors"].float()
