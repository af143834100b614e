"""Quantisation-aware fine-tuning: training with the rounding of INT8 in the forward pass (Jacob et al. 2018, §3).

The same values are rounded as in the exported graph:

- the weights of convolutions and linear layers, to 7 bits, with one scale for each output channel;
- embeddings, to 7 bits, with one scale;
- the inputs of convolutions and linear layers, to 8 bits, over their range in the batch.

The weights of an LSTM and the layers that compute the logits are not rounded. The gradient of the rounding is 1 inside the
range and 0 outside (straight-through estimator).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from compress.training.output_layer import logit_layers

WEIGHT_BITS = 7  # the exporter leaves one of the eight bits unused, see export/quantize.py
ACTIVATION_BITS = 8


class Rounded(nn.Module):
    """Rounds a weight as in the quantised graph, symmetric around zero.

    :param bits: of the rounded values.
    :param per_channel: one scale for each output channel, else one for the whole weight.
    """

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
    """Activations of any shape, rounded over their range. The range always includes zero."""
    low, high = torch.aminmax(x.detach().float())
    low, high, steps = low.clamp(max=0), high.clamp(min=0), 2**bits - 1
    scale = ((high - low) / steps).clamp(min=torch.finfo(torch.float32).tiny)
    zero = (-low / scale).round().to(torch.int32)
    return torch.fake_quantize_per_tensor_affine(x.float(), scale, zero, 0, steps)


@contextmanager
def rounding(student: nn.Module, weight_bits: int = WEIGHT_BITS) -> Iterator[None]:
    """Inside this context, the student computes and learns with the rounding of its INT8 graph. Afterwards it does not round.

    BatchNorm does not update its statistics in this context, because the exporter folds them into the rounded weights.
    """
    parametrized, hooks = [], []
    of_logits = set(logit_layers(student))
    modules = [module for module in student.modules() if module not in of_logits]
    try:
        for module in modules:
            if isinstance(module, nn.Conv1d | nn.Linear):
                hooks.append(module.register_forward_pre_hook(_round_input))
            if isinstance(module, nn.BatchNorm1d):
                hooks.append(module.register_forward_pre_hook(_keep_statistics))
        for module in modules:
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
