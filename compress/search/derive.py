"""From architecture weights to a network: its genotype and its first weights (AdaBERT §3.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import torch
from torch import Tensor

from compress.search.supernet import Supernet
from compress.students.cnn import CnnStudent
from compress.students.genotype import EDGES, NODES, OPERATIONS, Edge, Genotype

EDGES_PER_NODE = 2


Room = Callable[[int], float]  # what the kept edges of a cell may add up to, when there are so many cells


def derive(alpha: Tensor, depth: Tensor) -> Genotype:
    """The likeliest architecture: two edges into each node, an operation other than zero on each, a depth.

    That is, per edge, the strongest operation, per node its two strongest edges, and the likeliest depth (§3.3). An edge is
    as strong as the probability of its best operation, `zero` taking part in the softmax: an edge that would rather be cut
    loses to one that would not.

    :param alpha: (E, O) logits in the order of `EDGES` × `OPERATIONS`.
    :param depth: (K_max,) logits.
    """
    genotype = Candidates(alpha, depth, []).likeliest()
    assert genotype is not None, "there is no bound to exceed"
    return genotype


class Candidates:
    """All architectures than which none is both likelier and, in some price, cheaper: one search serves every budget.

    :param alpha: (E, O) logits in the order of `EDGES` × `OPERATIONS`.
    :param depth: (K_max,) logits.
    :param prices: (O,) each, what an operation costs in one respect.
    """

    def __init__(self, alpha: Tensor, depth: Tensor, prices: Sequence[Tensor]) -> None:
        log_alpha = torch.log_softmax(alpha.detach().double(), dim=1).tolist()
        self._log_depth: list[float] = torch.log_softmax(depth.detach().double(), dim=0).tolist()
        by_operation = list(zip(*(price.double().tolist() for price in prices), strict=True)) or [()] * len(OPERATIONS)
        self._cells = [_Choice((0.0,) * len(prices), 0.0, ())]
        for node in range(NODES):
            choices = _choices(node, log_alpha, by_operation)
            self._cells = _front(before.and_then(choice) for before in self._cells for choice in choices)

    def likeliest(self, *rooms: Room) -> Genotype | None:
        """The likeliest architecture that keeps to a bound on each price; None if there is none."""
        best: tuple[float, Genotype] | None = None
        for number, log_probability in enumerate(self._log_depth, 1):
            limits = [room(number) + 1e-9 for room in rooms]
            fitting = [c for c in self._cells if all(p <= limit for p, limit in zip(c.prices, limits, strict=True))]
            cell = max(fitting, key=lambda c: c.log_probability, default=None)
            if cell and (best is None or log_probability + cell.log_probability > best[0]):
                best = log_probability + cell.log_probability, Genotype(cells=number, nodes=cell.nodes)
        return best and best[1]


def cost_room(max_cost: float, max_cells: int) -> Room:
    """`architecture_cost` ≤ `max_cost`."""
    return lambda cells: max_cost * EDGES_PER_NODE * NODES * max_cells / cells


def architecture_cost(genotype: Genotype, costs: dict[str, float], max_cells: int) -> float:
    """K / K_max · mean over the kept edges of cost(op): the share of the costliest architecture's cost, in [0, 1]."""
    edges = [costs[edge.operation] for _, edge in genotype.edges]
    return genotype.cells / max_cells * sum(edges) / (EDGES_PER_NODE * NODES)


@dataclass(frozen=True)
class _Choice:
    """What enters the first nodes of a cell, one after the other."""

    prices: tuple[float, ...]  # one for each bound
    log_probability: float
    nodes: tuple[tuple[Edge, ...], ...]

    def and_then(self, other: _Choice) -> _Choice:
        prices = tuple(a + b for a, b in zip(self.prices, other.prices, strict=True))
        return _Choice(prices, self.log_probability + other.log_probability, self.nodes + other.nodes)


def _choices(node: int, log_alpha: list[list[float]], prices: list[tuple[float, ...]]) -> list[_Choice]:
    """The choices for a node than which none is both cheaper and likelier."""
    entering = [i for i, (target, _) in enumerate(EDGES) if target == node]
    usable = [o for o, name in enumerate(OPERATIONS) if name != "zero"]
    choices = []
    for kept in combinations(entering, EDGES_PER_NODE):
        for operations in product(usable, repeat=EDGES_PER_NODE):
            pairs = list(zip(kept, operations, strict=True))
            edges = tuple(Edge(source=EDGES[i][1], operation=OPERATIONS[o]) for i, o in pairs)
            total = tuple(map(sum, zip(*(prices[o] for o in operations), strict=True)))
            choices.append(_Choice(total, sum(log_alpha[i][o] for i, o in pairs), (edges,)))
    return _front(choices)


def _front(choices: Iterable[_Choice]) -> list[_Choice]:
    """Those than which none is both likelier and nowhere dearer; of equals, the first."""
    front: list[_Choice] = []
    for choice in sorted(choices, key=lambda c: (-c.log_probability, c.prices)):
        if not any(all(p <= q for p, q in zip(kept.prices, choice.prices, strict=True)) for kept in front):
            front.append(choice)
    return front


def inherit(student: CnnStudent, supernet: Supernet) -> None:
    """Give the derived student the searched weights: embeddings, the entrance, the kept operations, the read-outs."""
    genotype = Genotype.model_validate(student.config.genotype)
    student.embeddings.table.load_state_dict(supernet.embeddings.table.state_dict())
    student.entrance.load_state_dict(supernet.entrance.state_dict())
    cell: Any
    searched: Any
    for cell, searched in zip(student.cells, supernet.cells, strict=False):
        cell.node_weights.data.copy_(searched.node_weights.data)
        for operation, (node, edge) in zip(cell.operations, genotype.edges, strict=True):
            source = searched.edges[EDGES.index((node, edge.source))][OPERATIONS.index(edge.operation)]
            operation.load_state_dict(source.state_dict())
    for readout, searched in zip(student.readouts, supernet.readouts, strict=False):
        readout.load_state_dict(searched.state_dict())
