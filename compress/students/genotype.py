"""The genotype of a convolutional student: the architecture as data.

The search space is that of AdaBERT (§3.1): a stack of identical cells with three inner nodes and ten operations. In the wide space
a genotype has sizes too.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from compress.runtime.errors import UserError

NODES = 3
SIZES = ("width", "members", "halvings")
Operation = Literal[
    "zero", "identity", "conv3", "conv5", "conv7", "dilated3", "dilated5", "dilated7", "max_pool3", "avg_pool3"
]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)


def node_sources(node: int) -> range:
    """The states an inner node can read: 0 and 1 are the inputs of the cell, 2 + i is inner node i."""
    return range(2 + node)


# Every edge of a cell as (inner node, source), in the order of the architecture weights.
EDGES = [(node, source) for node in range(NODES) for source in node_sources(node)]


class Edge(BaseModel):
    """One edge into an inner node: the state it reads and the operation on it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    source: Annotated[int, Field(ge=0)]
    operation: Operation


class Genotype(BaseModel):
    """An architecture: the number of cells, and the edges into each inner node of a cell; in the wide space also its sizes.

    A size that is None is the recipe's, `student.width` for example.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    cells: Annotated[int, Field(ge=1)]
    nodes: Annotated[tuple[tuple[Edge, ...], ...], Field(min_length=NODES, max_length=NODES)]
    width: Annotated[int, Field(ge=16, le=1024, multiple_of=8)] | None = None  # channels of each member
    members: Annotated[int, Field(ge=1, le=8)] | None = None
    halvings: Annotated[int, Field(ge=0, le=8)] | None = None

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

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes that it has, by their names in the recipe's section `student`."""
        return {name: value for name in SIZES if (value := getattr(self, name)) is not None}

    def dump(self) -> dict[str, Any]:
        """As JSON types, without the sizes that it does not have."""
        return self.model_dump(mode="json", exclude_none=True)

    def __str__(self) -> str:
        cells = "1 cell" if self.cells == 1 else f"{self.cells} cells"
        size = f"{self.members or 1} × {self.width}, " if self.width else ""
        size += f"at 1/{2**self.halvings} of the positions, " if self.halvings else ""
        edges = "; ".join(" + ".join(f"{e.operation}({e.source})" for e in node) for node in self.nodes)
        return f"{size}{cells}: {edges}"


def random_genotype(cells: int, seed: int | str) -> Genotype:
    """Two edges into each node with a random operation other than zero, drawn uniformly: the baseline of a search."""
    rng = random.Random(f"genotype/{seed}")
    nodes = []
    for node in range(NODES):
        sources = sorted(rng.sample(node_sources(node), 2))
        nodes.append(tuple(Edge(source=source, operation=rng.choice(OPERATIONS[1:])) for source in sources))
    return Genotype(cells=cells, nodes=tuple(nodes))


def residual_genotype(cells: int) -> Genotype:
    """A hand-made cell: each node is the state before it plus a conv3 of that state."""
    sources = (1, *range(2, 2 + NODES - 1))
    nodes = tuple((Edge(source=s, operation="conv3"), Edge(source=s, operation="identity")) for s in sources)
    return Genotype(cells=cells, nodes=nodes)


def identity_genotype(cells: int = 1) -> Genotype:
    """The smallest genotype of this depth: one identity edge into each node, so no parameters and no cost."""
    return Genotype(cells=cells, nodes=((Edge(source=0, operation="identity"),),) * NODES)


def read_genotype(file: Path) -> Genotype:
    """Read the genotype of a `genotype.json`.

    :raises UserError: the file does not exist or holds no genotype.
    """
    try:
        return Genotype.model_validate(json.loads(file.read_text(encoding="utf-8-sig"))["genotype"])
    except FileNotFoundError:
        raise UserError(f"student.architecture: {file}: no such file") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"student.architecture: {file}: not a genotype.json of a search ({reason})") from None
