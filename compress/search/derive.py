"""From architecture weights to a genotype, and from supernet weights to the student's first weights (AdaBERT §3.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import torch
from torch import Tensor

from compress.search.cost import depth_shares
from compress.search.supernet import Supernet
from compress.students.cnn import CnnStudent
from compress.students.genotype import EDGES, NODES, OPERATIONS, Edge, Genotype

EDGES_PER_NODE = 2
TOLERANCE = 1e-9  # of a bound: floating-point sums of costs are not exact

# Number of cells → upper bound of the summed cost of the edges of one cell.
Bound = Callable[[int], float]


def derive(alpha: Tensor, depth: Tensor) -> Genotype:
    """The likeliest architecture: two edges into each node, one operation other than zero on each edge, and a depth.

    Each edge takes its strongest operation, each node its two strongest edges, and the depth is the likeliest one
    (§3.3). The strength of an edge is the probability of its best operation. `zero` takes part in this softmax, so an
    edge with a high probability of `zero` is weak.

    :param alpha: (E, O) logits in the order of `EDGES` × `OPERATIONS`.
    :param depth: (K_max,) logits.
    """
    genotype = ParetoFront(alpha, depth, []).likeliest()
    assert genotype is not None, "without a bound every architecture is allowed"
    return genotype


class ParetoFront:
    """The architectures that no other one dominates, that is, beats in probability and in every cost.

    It is computed once and then gives the likeliest architecture for any bounds.

    :param alpha: (E, O) logits.
    :param depth: (K_max,) logits.
    :param costs: one (O,) vector per kind of cost: what each operation costs.
    """

    def __init__(self, alpha: Tensor, depth: Tensor, costs: Sequence[Tensor]) -> None:
        log_alpha = torch.log_softmax(alpha.detach().double(), dim=1).tolist()
        self._log_depth: list[float] = torch.log_softmax(depth.detach().double(), dim=0).tolist()
        by_operation = list(zip(*(cost.double().tolist() for cost in costs), strict=True)) or [()] * len(OPERATIONS)
        self._cells = [_PartialCell((0.0,) * len(costs), 0.0, ())]
        for node in range(NODES):
            choices = _node_choices(node, log_alpha, by_operation)
            self._cells = _pareto_front(cell.extended(choice) for cell in self._cells for choice in choices)

    def likeliest(self, *bounds: Bound) -> Genotype | None:
        """The likeliest architecture within the bounds, or None if there is none.

        :param bounds: one for each kind of cost, in the same order.
        """
        best: tuple[float, Genotype] | None = None
        for cells, log_depth in enumerate(self._log_depth, 1):
            limits = [bound(cells) + TOLERANCE for bound in bounds]
            allowed = [c for c in self._cells if all(a <= b for a, b in zip(c.costs, limits, strict=True))]
            cell = max(allowed, key=lambda c: c.log_probability, default=None)
            if cell and (best is None or log_depth + cell.log_probability > best[0]):
                best = log_depth + cell.log_probability, Genotype(cells=cells, nodes=cell.nodes)
        return best and best[1]


def cost_bound(max_cost: float, max_cells: int, halvings: int = 0) -> Bound:
    """The bound that stands for `architecture_cost` ≤ `max_cost`."""
    shares = depth_shares(max_cells, halvings)
    return lambda cells: max_cost * EDGES_PER_NODE * NODES / shares[cells - 1]


def architecture_cost(genotype: Genotype, costs: dict[str, float], max_cells: int, halvings: int = 0) -> float:
    """K / K_max · mean over the edges of cost(op): the share of the costliest architecture's cost, in [0, 1].

    The convolutions of the halvings are not counted: the first is in every student of a recipe, the others are cheap.

    :param halvings: see `depth_shares`, which then stand for K / K_max.
    """
    edges = [costs[edge.operation] for _, edge in genotype.edges]
    return depth_shares(max_cells, halvings)[genotype.cells - 1] * sum(edges) / (EDGES_PER_NODE * NODES)


@dataclass(frozen=True)
class _PartialCell:
    """The edges into the first inner nodes of a cell."""

    costs: tuple[float, ...]  # sum over the edges, one for each kind of cost
    log_probability: float
    nodes: tuple[tuple[Edge, ...], ...]

    def extended(self, node: _PartialCell) -> _PartialCell:
        """The cell with one more node."""
        costs = tuple(a + b for a, b in zip(self.costs, node.costs, strict=True))
        return _PartialCell(costs, self.log_probability + node.log_probability, self.nodes + node.nodes)


def _node_choices(node: int, log_alpha: list[list[float]], costs: list[tuple[float, ...]]) -> list[_PartialCell]:
    """All choices of edges and operations for one node that no other choice dominates.

    :param costs: for each operation, one number per kind of cost.
    """
    entering = [i for i, (target, _) in enumerate(EDGES) if target == node]
    usable = [o for o, name in enumerate(OPERATIONS) if name != "zero"]
    choices = []
    for kept in combinations(entering, EDGES_PER_NODE):
        for operations in product(usable, repeat=EDGES_PER_NODE):
            pairs = list(zip(kept, operations, strict=True))
            edges = tuple(Edge(source=EDGES[i][1], operation=OPERATIONS[o]) for i, o in pairs)
            total = tuple(map(sum, zip(*(costs[o] for o in operations), strict=True)))
            choices.append(_PartialCell(total, sum(log_alpha[i][o] for i, o in pairs), (edges,)))
    return _pareto_front(choices)


def _pareto_front(choices: Iterable[_PartialCell]) -> list[_PartialCell]:
    """The choices that no other one dominates. Of two equal ones, the first is kept."""
    front: list[_PartialCell] = []
    # Sorted from likely to unlikely: a choice can only be dominated by one that comes before it.
    for choice in sorted(choices, key=lambda c: (-c.log_probability, c.costs)):
        if not any(all(a <= b for a, b in zip(kept.costs, choice.costs, strict=True)) for kept in front):
            front.append(choice)
    return front


def inherit(student: CnnStudent, supernet: Supernet) -> None:
    """Copy the supernet's weights to the derived student.

    Copied are the embeddings, the input layer, the halvings, the operations of the student's genotype and the read-outs.
    """
    genotype = Genotype.model_validate(student.config.genotype)
    student.embeddings.table.load_state_dict(supernet.embeddings.table.state_dict())
    student.entrance.load_state_dict(supernet.entrance.state_dict())
    for halving, learned in zip(student.downsampling, supernet.downsampling, strict=False):
        halving.load_state_dict(learned.state_dict())
    cell: Any
    searched: Any
    for cell, searched in zip(student.cells, supernet.cells, strict=False):
        cell.node_weights.data.copy_(searched.node_weights.data)
        for operation, (node, edge) in zip(cell.operations, genotype.edges, strict=True):
            source = searched.edges[EDGES.index((node, edge.source))][OPERATIONS.index(edge.operation)]
            operation.load_state_dict(source.state_dict())
    for readout, searched in zip(student.readouts, supernet.readouts, strict=False):
        readout.load_state_dict(searched.state_dict())
