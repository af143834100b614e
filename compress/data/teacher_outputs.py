"""What a frozen teacher says of a student's training texts, on disk: bound to the very texts that it was asked about."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from compress.data.batches import EncodedSplit, SoftTargets
from compress.data.corpus import UNLABELLED

FILE = "outputs.safetensors"


@dataclass(frozen=True)
class TeacherOutputs:
    """A teacher's answers to N texts, in the order of the texts."""

    texts: str  # `EncodedSplit.fingerprint` of the texts
    targets: SoftTargets
    weights: Tensor | None = None  # (N,): a meta-teacher's expertise weights

    def save(self, directory: Path) -> None:
        """Write `outputs.safetensors`."""
        tensors = {"logits": self.targets.logits, "probes": self.targets.probes, "weights": self.weights}
        present = {name: tensor.contiguous() for name, tensor in tensors.items() if tensor is not None}
        save_file(present, directory / FILE, {"texts": self.texts})

    @classmethod
    def load(cls, directory: Path) -> TeacherOutputs:
        """Read `outputs.safetensors`."""
        with safe_open(directory / FILE, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            texts = file.metadata()["texts"]
        return cls(texts, SoftTargets(tensors["logits"], tensors.get("probes")), tensors.get("weights"))

    def attach(self, texts: EncodedSplit) -> EncodedSplit:
        """The texts with the teacher's answers; the label of a text that had none is the teacher's.

        :raises ValueError: the outputs belong to other texts.
        """
        if texts.fingerprint != self.texts:
            raise ValueError("these teacher's outputs belong to other texts, or to these in another order")
        verdicts = self.targets.logits.argmax(dim=1)
        labels = torch.where(texts.labels == UNLABELLED, verdicts, texts.labels)
        return replace(texts, labels=labels, teacher=self.targets, weights=self.weights)
