"""Tensors in safetensors files."""

from __future__ import annotations

from pathlib import Path

from safetensors import safe_open
from torch import Tensor


def load_tensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file by name, on the CPU, and the metadata of the file."""
    with safe_open(file, framework="pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - it is no mapping
        return tensors, opened.metadata() or {}
