"""Quantisation-aware fine-tuning: the student learns on with the rounding of INT8 in its forward pass (Jacob et al. 2018, §3).

What is rounded is what the exporter rounds: weights of convolutions and linear layers to 7 bits for each output channel,
embeddings to 7 bits, and what enters those layers to 8 bits over its range in the batch. An LSTM's weights are not.
Gradients pass the rounding unchanged, but for values outside the range (straight-through).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

WEIGHT_BITS = 7  # the exporter keeps one of the eight free, see export/quantize.py
ACTIVATION_BITS = 8


class Rounded(nn.Module):
    """A weight as the quantised graph has it, symmetric around zero; of a matrix, each row has a range of its own."""

    def __init__(self, bits: int, per_channel: bool) -> None:
        super().__init__()
        self.largest = 2 ** (bits - 1)
        self.per_channel = per_channel

    def forward(self, weight: Tensor) -> Tensor:
        """(O, …) → (O, …)."""
        rows = weight.detach().abs().flatten(1).amax(dim=1) if self.per_channel else weight.detach().abs().max()
        scale = (rows / self.largest).clamp(min=torch.finfo(torch.float32).tiny)
        zero = torch.zeros_like(scale, dtype=torch.int32)
        if self.per_channel:
            return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -self.largest, self.largest)
        return torch.fake_quantize_per_tensor_affine(weight, scale, zero, -self.largest, self.largest)


def rounded_activations(x: Tensor, bits: int = ACTIVATION_BITS) -> Tensor:
    """Activations of any shape, rounded over their range, which always has zero in it."""
    low, high = torch.aminmax(x.detach().float())
    low, high, steps = low.clamp(max=0), high.clamp(min=0), 2**bits - 1
    scale = ((high - low) / steps).clamp(min=torch.finfo(torch.float32).tiny)
    zero = (-low / scale).round().to(torch.int32)
    return torch.fake_quantize_per_tensor_affine(x.float(), scale, zero, 0, steps)


@contextmanager
def rounding(student: nn.Module, weight_bits: int = WEIGHT_BITS) -> Iterator[None]:
    """Let the student compute as its INT8 graph will, and learn so; afterwards it has its weights, unrounded, as before.

    BatchNorm keeps its statistics meanwhile: the exporter folds them into the weights that are rounded.
    """
    parametrized, hooks = [], []
    try:
        for module in student.modules():
            if isinstance(module, nn.Conv1d | nn.Linear):
                hooks.append(module.register_forward_pre_hook(_round_input))
            if isinstance(module, nn.BatchNorm1d):
                hooks.append(module.register_forward_pre_hook(_keep_statistics))
        for module in list(student.modules()):
            if isinstance(module, nn.Conv1d | nn.Linear | nn.Embedding):
                form = Rounded(weight_bits, per_channel=not isinstance(module, nn.Embedding))
                parametrize.register_parametrization(module, "weight", form, unsafe=True)
                parametrized.append(module)
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for module in parametrized:
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=False)


def _round_input(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (rounded_activations(inputs[0]), *inputs[1:])


def _keep_statistics(module: nn.Module, inputs: tuple[Any, ...]) -> None:
    module.eval()
