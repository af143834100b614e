"""From architecture weights to a network: its genotype and its first weights (AdaBERT §3.3)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from compress.search.space import EDGES, NODES, OPERATIONS, Edge, Genotype
from compress.search.supernet import Supernet
from compress.students.cnn import CnnStudent

EDGES_PER_NODE = 2


def derive(alpha: Tensor, depth: Tensor) -> Genotype:
    """Per edge the strongest operation other than zero, per node its two strongest edges, the likeliest depth.

    An edge is as strong as the probability of its best operation, `zero` taking part in the softmax: an edge that
    would rather be cut loses to one that would not.

    :param alpha: (E, O) logits in the order of `EDGES` × `OPERATIONS`.
    :param depth: (K_max,) logits.
    """
    probabilities = torch.softmax(alpha.detach(), dim=1).clone()
    probabilities[:, OPERATIONS.index("zero")] = -1
    strength, best = probabilities.max(dim=1)
    nodes = []
    for node in range(NODES):
        entering = [i for i, (target, _) in enumerate(EDGES) if target == node]
        kept = sorted(sorted(entering, key=lambda i: -float(strength[i]))[:EDGES_PER_NODE])
        nodes.append(tuple(Edge(source=EDGES[i][1], operation=OPERATIONS[int(best[i])]) for i in kept))
    return Genotype(cells=int(depth.argmax()) + 1, nodes=tuple(nodes))


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
