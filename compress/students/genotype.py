"""The search space of AdaBERT (§3.1): a stack of identical cells of three nodes over ten operations."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from compress.runtime.errors import UserError

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
    nodes: Annotated[tuple[tuple[Edge, ...], ...], Field(min_length=NODES, max_length=NODES)]

    @model_validator(mode="after")
    def _check_sources(self) -> Genotype:
        for node, edges in enumerate(self.nodes):
            if not edges or any(edge.source not in node_sources(node) for edge in edges):
                raise ValueError(f"node {node + 1} must read inputs or nodes before it")
        return self

    @property
    def edges(self) -> list[tuple[int, Edge]]:
        """(inner node, edge) in order."""
        return [(node, edge) for node, entering in enumerate(self.nodes) for edge in entering]

    def __str__(self) -> str:
        cells = "1 cell" if self.cells == 1 else f"{self.cells} cells"
        return f"{cells}: " + "; ".join(" + ".join(f"{e.operation}({e.source})" for e in node) for node in self.nodes)


def random_genotype(cells: int, seed: int | str) -> Genotype:
    """Two edges into each node and an operation on each, other than zero, all equally likely: the control of a search."""
    rng = random.Random(f"genotype/{seed}")
    nodes = []
    for node in range(NODES):
        sources = sorted(rng.sample(node_sources(node), 2))
        nodes.append(tuple(Edge(source=source, operation=rng.choice(OPERATIONS[1:])) for source in sources))
    return Genotype(cells=cells, nodes=tuple(nodes))


def residual_genotype(cells: int) -> Genotype:
    """What one would build by hand: each node a conv3 of the state before it, beside that state itself."""
    sources = (1, *range(2, 2 + NODES - 1))
    nodes = tuple((Edge(source=s, operation="conv3"), Edge(source=s, operation="identity")) for s in sources)
    return Genotype(cells=cells, nodes=nodes)


def bare_genotype(cells: int = 1) -> Genotype:
    """Operations without parameters and without cost only: the smallest student of so many cells."""
    return Genotype(cells=cells, nodes=((Edge(source=0, operation="identity"),),) * NODES)


def read_genotype(file: Path) -> Genotype:
    """The genotype in a `genotype.json`.

    :raises UserError: there is none.
    """
    try:
        return Genotype.model_validate(json.loads(file.read_text(encoding="utf-8"))["genotype"])
    except FileNotFoundError:
        raise UserError(f"student.architecture: {file}: no such file") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"student.architecture: {file}: not a genotype.json of a search ({reason})") from None
