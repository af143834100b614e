"""The search space of AdaBERT (§3.1): a stack of identical cells of three nodes over ten operations."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

NODES = 3
Operation = Literal[
    "zero", "identity", "conv3", "conv5", "conv7", "dilated3", "dilated5", "dilated7", "max_pool3", "avg_pool3"
]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)


def node_sources(node: int) -> range:
    """What an inner node may read: 0 and 1 are the cell's inputs, 2 + i is inner node i."""
    return range(2 + node)


# Every edge of a cell as (inner node, source), in the order of the architecture weights.
EDGES = [(node, source) for node in range(NODES) for source in node_sources(node)]


class Edge(BaseModel):
    """One operation on one input of an inner node."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    source: Annotated[int, Field(ge=0)]
    operation: Operation


class Genotype(BaseModel):
    """A derived architecture: how many cells, and which edges enter each inner node of a cell."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    cells: Annotated[int, Field(ge=1)]
    nodes: tuple[tuple[Edge, ...], ...]

    @property
    def edges(self) -> list[tuple[int, Edge]]:
        """(inner node, edge) in order."""
        return [(node, edge) for node, entering in enumerate(self.nodes) for edge in entering]
