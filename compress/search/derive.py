"""From architecture weights to a network: its genotype and its first weights (AdaBERT §3.3)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import torch
from torch import Tensor

from compress.search.space import EDGES, NODES, OPERATIONS, Edge, Genotype
from compress.search.supernet import Supernet
from compress.students.cnn import CnnStudent

EDGES_PER_NODE = 2


def derive(alpha: Tensor, depth: Tensor, costs: Tensor | None = None, max_cost: float = 1.0) -> Genotype:
    """The likeliest architecture: two edges into each node, an operation other than zero on each, a depth.

    Without a bound that is, per edge, the strongest operation, per node its two strongest edges, and the likeliest depth
    (§3.3). An edge is as strong as the probability of its best operation, `zero` taking part in the softmax: an edge that
    would rather be cut loses to one that would not. With a bound, it is the likeliest of all architectures that keep to it:
    one search serves every budget.

    :param alpha: (E, O) logits in the order of `EDGES` × `OPERATIONS`.
    :param depth: (K_max,) logits.
    :param costs: (O,) in [0, 1], needed for a bound.
    :param max_cost: the most that `architecture_cost` may be.
    """
    log_alpha = torch.log_softmax(alpha.detach().double(), dim=1).tolist()
    log_depth = torch.log_softmax(depth.detach().double(), dim=0).tolist()
    prices = [0.0] * len(OPERATIONS) if costs is None else costs.tolist()
    fronts = [_node_front(node, log_alpha, prices) for node in range(NODES)]
    best: tuple[float, int, tuple[_Choice, ...]] | None = None
    for cells in range(1, len(log_depth) + 1):
        room = max_cost * EDGES_PER_NODE * NODES * len(log_depth) / cells + 1e-9
        for choices in product(*fronts):
            score = log_depth[cells - 1] + sum(choice.log_probability for choice in choices)
            if sum(choice.cost for choice in choices) <= room and (best is None or score > best[0]):
                best = score, cells, choices
    assert best is not None, "an identity costs nothing"
    return Genotype(cells=best[1], nodes=tuple(choice.edges for choice in best[2]))


def architecture_cost(genotype: Genotype, costs: dict[str, float], max_cells: int) -> float:
    """K / K_max · mean over the kept edges of cost(op): the share of the costliest architecture's cost, in [0, 1]."""
    edges = [costs[edge.operation] for _, edge in genotype.edges]
    return genotype.cells / max_cells * sum(edges) / (EDGES_PER_NODE * NODES)


@dataclass(frozen=True)
class _Choice:
    """What may enter a node."""

    cost: float
    log_probability: float
    edges: tuple[Edge, ...]


def _node_front(node: int, log_alpha: list[list[float]], prices: list[float]) -> list[_Choice]:
    """The choices for a node than which none is both cheaper and likelier, cheapest first."""
    entering = [i for i, (target, _) in enumerate(EDGES) if target == node]
    usable = [o for o, name in enumerate(OPERATIONS) if name != "zero"]
    choices = []
    for kept in combinations(entering, EDGES_PER_NODE):
        for operations in product(usable, repeat=EDGES_PER_NODE):
            pairs = list(zip(kept, operations, strict=True))
            edges = tuple(Edge(source=EDGES[i][1], operation=OPERATIONS[o]) for i, o in pairs)
            choices.append(_Choice(sum(prices[o] for o in operations), sum(log_alpha[i][o] for i, o in pairs), edges))
    front: list[_Choice] = []
    for choice in sorted(choices, key=lambda c: (c.cost, -c.log_probability)):
        if not front or choice.log_probability > front[-1].log_probability:
            front.append(choice)
    return front


def inherit(student: CnnStudent, supernet: Supernet) -> None:
    """Give the derived student the searched weights: embeddings, the kept operations, the read-outs."""
    genotype = Genotype.model_validate(student.config.genotype)
    student.embeddings.table.load_state_dict(supernet.embeddings.table.state_dict())
    cell: Any
    searched: Any
    for cell, searched in zip(student.cells, supernet.cells, strict=False):
        cell.node_weights.data.copy_(searched.node_weights.data)
        for operation, (node, edge) in zip(cell.operations, genotype.edges, strict=True):
            source = searched.edges[EDGES.index((node, edge.source))][OPERATIONS.index(edge.operation)]
            operation.load_state_dict(source.state_dict())
    for readout, searched in zip(student.readouts, supernet.readouts, strict=False):
        readout.load_state_dict(searched.state_dict())
