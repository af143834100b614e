"""The supernet: every operation on every edge, one drawn at a time (AdaBERT §3.1, §3.3).

All cells share one set of architecture weights, never their parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compress.students.cnn import Embeddings, Entrance, ReadOut, masks_of, pool, weighted_sum
from compress.students.genotype import EDGES, NODES, OPERATIONS
from compress.students.operations import build_operation


@dataclass(frozen=True)
class Draw:
    """One sampled architecture. Gates are one in the forward pass and carry the gradient of the soft sample."""

    operations: list[int]  # index into OPERATIONS for each edge
    gates: Tensor  # (E, O)
    depth: int  # number of cells, counted from 1
    depth_gates: Tensor  # (K_max,)


def gumbel_gates(logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Straight-through Gumbel-softmax over the last axis: (index of the draw, gates of the shape of `logits`)."""
    soft = F.gumbel_softmax(logits, tau=temperature, dim=-1)
    index = soft.argmax(dim=-1)
    hard = F.one_hot(index, logits.shape[-1]).to(soft.dtype)
    return index, hard + soft - soft.detach()


class SearchCell(nn.Module):
    """A cell that holds all operations of all edges."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.edges = nn.ModuleList(nn.ModuleList(build_operation(name, width) for name in OPERATIONS) for _ in EDGES)
        self.node_weights = nn.Parameter(torch.zeros(NODES))

    def forward(self, first: Tensor, second: Tensor, mask: Tensor, draw: Draw, dense: bool) -> Tensor:
        """Two inputs (B, D, L) and the mask (B, 1, L) → (B, D, L)."""
        states = [first, second]
        for node in range(NODES):
            total = torch.zeros_like(first)
            for edge, (target, source) in enumerate(EDGES):
                if target == node:
                    total = total + self._edge(edge, states[source], mask, draw, dense)
            states.append(total * mask)
        return weighted_sum(states[2:], self.node_weights)

    def _edge(self, edge: int, x: Tensor, mask: Tensor, draw: Draw, dense: bool) -> Tensor:
        chosen = range(len(OPERATIONS)) if dense else [draw.operations[edge]]
        total = torch.zeros_like(x)
        for index in chosen:
            if OPERATIONS[index] != "zero":
                total = total + self.edges[edge][index](x, mask) * draw.gates[edge, index]  # type: ignore[index]
        return total


class Supernet(nn.Module):
    """K_max search cells with architecture weights `alpha` (E, O) and depth weights `depth` (K_max,)."""

    def __init__(
        self,
        vocab_size: int,
        width: int,
        max_cells: int,
        num_labels: int,
        pair: bool,
        pair_inputs: str,
        dropout: float,
        token_dropout: float,
    ) -> None:
        super().__init__()
        self.pair = pair
        self.embeddings = Embeddings(vocab_size, width, dropout, token_dropout)
        self.entrance = Entrance(width, pair, pair_inputs)
        self.cells = nn.ModuleList(SearchCell(width) for _ in range(max_cells))
        self.readouts = nn.ModuleList(
            ReadOut(depth + 1, width, num_labels, pair and not self.entrance.streams, dropout)
            for depth in range(1, max_cells + 1)
        )
        self.alpha = nn.Parameter(torch.zeros(len(EDGES), len(OPERATIONS)))
        self.depth = nn.Parameter(torch.zeros(max_cells))

    def architecture_parameters(self) -> list[nn.Parameter]:
        """What the architecture's optimiser moves."""
        return [self.alpha, self.depth]

    def weight_parameters(self) -> list[nn.Parameter]:
        """Everything else."""
        architecture = {id(p) for p in self.architecture_parameters()}
        return [p for p in self.parameters() if id(p) not in architecture]

    def draw(self, temperature: float) -> Draw:
        """Sample an architecture."""
        operations, gates = gumbel_gates(self.alpha, temperature)
        depth, depth_gates = gumbel_gates(self.depth, temperature)
        return Draw(operations.tolist(), gates, int(depth) + 1, depth_gates)

    def likeliest(self) -> Draw:
        """The architecture of largest weight on each edge, without randomness; for evaluation."""
        operations, depth = self.alpha.argmax(dim=1), self.depth.argmax(dim=0)
        gates = F.one_hot(operations, len(OPERATIONS)).to(self.alpha.dtype)
        depth_gates = F.one_hot(depth, len(self.depth)).to(self.depth.dtype)
        return Draw(operations.tolist(), gates, int(depth) + 1, depth_gates)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None,
        draw: Draw,
        *,
        dense: bool = False,
    ) -> list[Tensor]:
        """Logits (B, C) after each of the drawn architecture's cells.

        The gates are one-hot, so what was not drawn adds nothing, and by default is not computed: ten times cheaper,
        and all that a step on the weights needs. With `dense` everything is computed; the values are the same, but the
        gates of what was not drawn receive gradients too. A step on the architecture learns from those: through the
        drawn operation alone it only learns whether to scale up an output that training has already scaled right.
        """
        mask, texts = masks_of(attention_mask, token_type_ids, self.pair, self.embeddings.table.weight.dtype)
        entry = self.entrance(self.embeddings(input_ids, mask), mask, texts)
        before, now = entry.first, entry.second
        pooled, logits = [pool(entry.state, entry.texts)], []
        for depth in range(len(self.cells) if dense else draw.depth):
            before, now = now, self.cells[depth](before, now, entry.mask, draw, dense)
            pooled.append(pool(now, entry.texts))
            logits.append(self.readouts[depth](pooled))
        last = draw.depth - 1
        gated = [z * gate for z, gate in zip(logits, draw.depth_gates, strict=False)]
        return [*logits[:last], torch.stack(gated).sum(dim=0) if dense else gated[last]]
