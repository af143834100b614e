"""The supernet: every operation on every edge; each step samples one operation per edge (AdaBERT §3.1, §3.3).

All cells share one set of architecture weights. They never share the parameters of their operations.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compress.students import CnnStudentConfig
from compress.students.genotype import EDGES, NODES, OPERATIONS
from compress.students.network import CellNetwork, run_cell
from compress.students.operations import build_operation


@dataclass(frozen=True)
class Draw:
    """One sampled architecture. Gates are one-hot in the forward pass; their gradient is that of the soft sample."""

    operations: list[int]  # index into OPERATIONS for each edge
    gates: Tensor  # (E, O)
    depth: int  # number of cells, counted from 1
    depth_gates: Tensor  # (K_max,)


def gumbel_gates(logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Straight-through Gumbel-softmax over the last axis: (sampled index, gates of the shape of `logits`)."""
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
        edges = [(*place, partial(self._run_edge, edge, draw, dense)) for edge, place in enumerate(EDGES)]
        return run_cell(first, second, mask, edges, self.node_weights)

    def _run_edge(self, edge: int, draw: Draw, dense: bool, x: Tensor, mask: Tensor) -> Tensor:
        """Sum of the operations of an edge, each times its gate: (B, D, L) → (B, D, L)."""
        computed = range(len(OPERATIONS)) if dense else [draw.operations[edge]]
        total = torch.zeros_like(x)
        for index in computed:
            if OPERATIONS[index] != "zero":
                total = total + self.edges[edge][index](x, mask) * draw.gates[edge, index]  # type: ignore[index]
        return total


class Supernet(CellNetwork, nn.Module):
    """K_max search cells with architecture weights `alpha` (E, O) and depth weights `depth` (K_max,).

    :param config: sizes and options of the student that is searched for; its genotype is not used.
    :param max_cells: K_max.
    """

    def __init__(self, config: CnnStudentConfig, max_cells: int) -> None:
        super().__init__()
        self.build_layers(config, lambda: SearchCell(config.width), max_cells)
        self.alpha = nn.Parameter(torch.zeros(len(EDGES), len(OPERATIONS)))
        self.depth = nn.Parameter(torch.zeros(max_cells))

    def architecture_parameters(self) -> list[nn.Parameter]:
        """The parameters of the architecture optimiser."""
        return [self.alpha, self.depth]

    def weight_parameters(self) -> list[nn.Parameter]:
        """The parameters of the weight optimiser: all others."""
        architecture = {id(p) for p in self.architecture_parameters()}
        return [p for p in self.parameters() if id(p) not in architecture]

    def embedding_tables(self) -> list[nn.Embedding]:
        """See `Student.embedding_tables`."""
        return [self.embeddings.table]

    def draw(self, temperature: float) -> Draw:
        """Sample an architecture."""
        operations, gates = gumbel_gates(self.alpha, temperature)
        depth, depth_gates = gumbel_gates(self.depth, temperature)
        return Draw(operations.tolist(), gates, int(depth) + 1, depth_gates)

    def likeliest(self) -> Draw:
        """The operation of largest weight on each edge and the depth of largest weight, for evaluation."""
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
        """Logits (B, C) after each cell of the sampled architecture, from ids, mask and token types (B, L).

        :param dense: compute every operation and every depth, not only the sampled ones. The logits are the same,
            because the gates are one-hot. A weight step does not need this, and without it a step is ten times cheaper.
            An architecture step needs it: then the gates that were not sampled receive gradients too. The gradient of
            the sampled gate alone only says whether to scale its output up or down, and training has already found the
            right scale.
        """
        cells = [partial(cell, draw=draw, dense=dense) for cell in self.cells]
        computed = cells if dense else cells[: draw.depth]
        logits = self.read_out_each(self.pooled_states(computed, input_ids, attention_mask, token_type_ids))
        last = draw.depth - 1
        gated = [z * gate for z, gate in zip(logits, draw.depth_gates, strict=False)]
        return [*logits[:last], torch.stack(gated).sum(dim=0) if dense else gated[last]]
