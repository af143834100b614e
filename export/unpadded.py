"""The convolutional student for texts of one length, from which the INT8 graph for a CPU is made.

Without padding there is no mask, so a third of the graph's nodes are gone. A CPU gains nothing from large batches of such a student;
so `OnnxModel` runs texts of different lengths one after the other. All states are (B, L, D), the layout of the INT8 kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from operator import add
from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compress.students import CnnStudent
from compress.students.downsampling import halved
from compress.students.genotype import NODES
from compress.students.operations import Identity, Zero


def takes_unpadded(student: nn.Module) -> TypeGuard[CnnStudent]:
    """Whether there is an `UnpaddedCnn` of this student.

    With "streams" the two texts of a pair start at the same position, so that the shorter one is always padded.
    """
    return isinstance(student, CnnStudent) and not student.entrance.streams


class UnpaddedCnn(nn.Module):
    """A folded `CnnStudent` without masks.

    :param student: its `fold` was called.
    :param max_length: the most tokens of a text.
    """

    def __init__(self, student: CnnStudent, max_length: int) -> None:
        super().__init__()
        self.table, self.alignment, self.cells = student.embeddings.table, student.entrance.alignment, student.cells
        self.downsampling = student.downsampling
        self.readout = _means_first(student.readouts[-1]) if student.entrance.texts == 1 else student.readouts[-1]
        self.max_length = max_length

    def forward(self, input_ids: Tensor, segments: Tensor | None = None) -> Tensor:
        """Logits (B, C) from token ids (B, L) and for a pair the segments (B, L), 1 on tokens of the second text."""
        embedded = self.table(input_ids)  # (B, L, D)
        previous = current = embedded
        masks: list[Tensor] = []  # of the two texts
        if segments is not None:
            second = segments.unsqueeze(1).to(embedded.dtype)  # (B, 1, L)
            masks = [1 - second, second]
            if self.alignment is not None:
                current = _channels_last(partial(self.alignment, mask=None, text_masks=masks), embedded)
        states = [embedded]
        for number, cell in enumerate(self.cells):
            if number < len(self.downsampling):
                previous, current = _downsampled(self.downsampling[number], previous, current)
            previous, current = current, _run_cell(cell, previous, current)
            states.append(current)
        if masks:
            return self.readout(self._pooled_pair(states, torch.cat(masks, dim=1)))
        means = [_channels_last(partial(F.adaptive_avg_pool1d, output_size=1), state) for state in states]  # (B, 1, D)
        maxima = [_channels_last(self._max_pool, state) for state in states]
        return self.readout(torch.cat([*means, F.relu(torch.cat(maxima, dim=2))], dim=2).flatten(1))

    def _pooled_pair(self, states: Sequence[Tensor], masks: Tensor) -> list[Tensor]:
        """The embedded pair and the outputs of all cells, pooled, with the masks (B, 2, L) of both texts."""
        pooled = [_pool_pair(states[0], masks)]
        for number, state in enumerate(states[1:]):
            masks = halved(masks) if number < len(self.downsampling) else masks
            pooled.append(_pool_pair(state, masks))
        return pooled

    def _max_pool(self, state: Tensor) -> Tensor:
        """(B, D, L) → (B, D, 1). Of all ways to write the maximum of a text, only this one runs on integers and is fast."""
        return F.max_pool1d(state, self.max_length, stride=self.max_length, ceil_mode=True)


def _means_first(readout: nn.Module) -> nn.Linear:
    """The folded linear layer of a `ReadOut` for the means of all S states (S·D) followed by all maxima."""
    old: nn.Linear = readout.classifier  # type: ignore[assignment]
    states = len(readout.state_weights)  # type: ignore[arg-type]
    weight = old.weight.detach().unflatten(1, (states, 2, -1)).transpose(1, 2).flatten(1)
    layer = nn.Linear(old.in_features, old.out_features)
    layer.weight, layer.bias = nn.Parameter(weight.contiguous()), old.bias
    return layer


def _downsampled(downsampling: nn.Module, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """As `Downsampling.forward`: both inputs (B, L, D) → (B, ⌈L / 2⌉, D) each, the same tensor if they are the same."""
    found = downsampling(first.transpose(1, 2), second.transpose(1, 2), None)
    ends = {id(x): x.transpose(1, 2) for x in found}
    return ends[id(found[0])], ends[id(found[1])]


Sum = dict[int, float]  # the factor of each tensor by its number


def _run_cell(cell: nn.Module, first: Tensor, second: Tensor) -> Tensor:
    """As `compress.students.network.run_cell`, with as few sums as possible: two inputs (B, L, D) → (B, L, D).

    A node that only identities and the output read is never computed: its summands go into the sums that read it.
    """
    edges = [
        (*place, operation, scale)
        for place, operation, scale in zip(cell.places, cell.operations, cell.scales, strict=True)  # type: ignore[arg-type]
        if not isinstance(operation, Zero)
    ]
    read = {source for _, source, operation, _ in edges if not isinstance(operation, Identity)}
    tensors = [first, second]
    states: list[Sum] = [{0: 1.0}, {1: 1.0}] if first is not second else [{0: 1.0}, {0: 1.0}]
    for node in range(NODES):
        total: Sum = {}
        for _, source, operation, scale in (edge for edge in edges if edge[0] == node):
            if isinstance(operation, Identity):
                total = _plus(total, states[source], scale)
                continue
            ((number, _),) = states[source].items()
            tensors.append(_channels_last(partial(operation, mask=None), tensors[number]))
            total = _plus(total, {len(tensors) - 1: scale})
        if 2 + node in read:
            tensors.append(_added(total, tensors))
            total = {len(tensors) - 1: 1.0}
        states.append(total)
    return _added(reduce(_plus, states[2:]), tensors)


def _plus(one: Sum, other: Sum, scale: float = 1.0) -> Sum:
    return one | {number: one.get(number, 0.0) + factor * scale for number, factor in other.items()}


def _added(total: Sum, tensors: Sequence[Tensor]) -> Tensor:
    """The tensor of a sum; zeros if it is empty."""
    parts = [tensors[number] if factor == 1 else tensors[number] * factor for number, factor in total.items()]
    return reduce(add, parts) if parts else tensors[0] * 0


def _channels_last(operation: Callable[[Tensor], Tensor], state: Tensor) -> Tensor:
    """An operation on (B, D, L) for a state (B, L, D). ONNX Runtime has kernels for the latter, so the transposes cancel out."""
    return operation(state.transpose(1, 2)).transpose(1, 2)


def _pool_pair(state: Tensor, masks: Tensor) -> Tensor:
    """As `compress.students.layers.pool`: (B, L, D) and masks (B, 2, L) → (B, 2, 2·D)."""
    mean = (masks / masks.sum(dim=2, keepdim=True).clamp(min=1)) @ state  # (B, 2, D)
    maxima = [F.relu((state * mask.unsqueeze(2)).amax(dim=1)) for mask in masks.unbind(dim=1)]  # (B, D) each
    return torch.cat([mean, torch.stack(maxima, dim=1)], dim=2)
