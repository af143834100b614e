"""The spaces that trials draw architectures from: the cells of AdaBERT, or cells of any size.

In the paper's space all candidates have the recipe's sizes, and a trial starts from the weights of the supernet. In the wide space
the number and the width of the networks and the positions that the cells see vary too. No supernet has the weights of all of these,
so a trial starts as a final training does, and the cost is the time of the whole student, measured.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from compress.recipe.sections import CnnOptions
from compress.search.derive import ParetoFront, architecture_cost, cost_bound
from compress.students.genotype import (
    NODES,
    OPERATIONS,
    Edge,
    Genotype,
    identity_genotype,
    node_sources,
    random_genotype,
    residual_genotype,
)

# Upper bounds of the cost at which the search's most probable architecture is tried.
COST_BOUNDS = (1.0, 0.3, 0.15, 0.07)
MEMBERS = (1, 2)  # of the wide space


@dataclass(frozen=True)
class Price:
    """What an architecture costs."""

    cost: float  # a share of the costliest architecture's, in [0, 1]
    latency_ms: float | None = None  # where the whole student was timed


class Space(ABC):
    """The architectures that can be tried.

    :param options: the recipe's student.
    :param two_inputs: whether the two inputs of the first cell differ, as with a pair of texts.
    """

    def __init__(self, options: CnnOptions, two_inputs: bool) -> None:
        self.options, self.two_inputs = options, two_inputs

    @abstractmethod
    def first(self) -> list[Genotype]:
        """What is tried before anything is varied."""

    @abstractmethod
    def price(self, genotype: Genotype) -> Price:
        """What the architecture costs."""

    @abstractmethod
    def mutate(self, genotype: Genotype, rng: random.Random) -> Genotype:
        """One random change."""

    @abstractmethod
    def draw(self, rng: random.Random) -> Genotype:
        """An architecture drawn uniformly."""

    def key(self, genotype: Genotype) -> tuple[Any, ...]:
        """See `network_key`."""
        return network_key(genotype, self.two_inputs)

    def untried(
        self, change: Callable[[Genotype], Genotype], genotype: Genotype, tried: Collection[tuple[Any, ...]]
    ) -> Genotype:
        """A changed architecture that was not tried yet. If no single change finds one, changes are added until one does."""
        for _ in range(50):
            changed = change(genotype)
            if self.key(changed) not in tried:
                return changed
        while self.key(genotype) in tried:
            genotype = change(genotype)
        return genotype


class PaperSpace(Space):
    """AdaBERT's space, at the sizes of the recipe.

    :param alpha: (E, O) logits of the search.
    :param depth: (K_max,) logits of the search.
    :param costs: the cost of each operation, in [0, 1].
    """

    def __init__(
        self, options: CnnOptions, two_inputs: bool, alpha: Tensor, depth: Tensor, costs: dict[str, float]
    ) -> None:
        super().__init__(options, two_inputs)
        self.alpha, self.depth, self.costs = alpha, depth, costs

    def first(self) -> list[Genotype]:
        """The smallest student, some made by hand, and the search's most probable at several costs."""
        candidates = ParetoFront(self.alpha, self.depth, [torch.tensor([self.costs[name] for name in OPERATIONS])])
        bounds = [cost_bound(bound, len(self.depth), self.options.halvings) for bound in COST_BOUNDS]
        likely = [genotype for bound in bounds if (genotype := candidates.likeliest(bound))]
        by_hand = [residual_genotype(cells) for cells in (1, len(self.depth))]
        return list(dict.fromkeys([identity_genotype(), *by_hand, *likely]))

    def price(self, genotype: Genotype) -> Price:
        """See `architecture_cost`."""
        return Price(architecture_cost(genotype, self.costs, self.options.max_cells, self.options.halvings))

    def mutate(self, genotype: Genotype, rng: random.Random) -> Genotype:
        """See `mutate_cell`."""
        return mutate_cell(genotype, self.options.max_cells, rng)

    def draw(self, rng: random.Random) -> Genotype:
        """See `random_genotype`."""
        return random_genotype(rng.randint(1, self.options.max_cells), str(rng.random()))


class WideSpace(Space):
    """Cells, the width and the number of the networks, and the positions that the cells see.

    :param widths: the channels that a network may have, in ascending order. All members together have at most the largest one.
    :param milliseconds: measures the whole student in INT8, on one text.
    """

    def __init__(
        self, options: CnnOptions, two_inputs: bool, widths: Sequence[int], milliseconds: Callable[[Genotype], float]
    ) -> None:
        super().__init__(options, two_inputs)
        self.widths, self.milliseconds = widths, milliseconds
        self.shapes = [(width, members) for width, members in product(widths, MEMBERS) if width * members <= widths[-1]]
        self._most: float | None = None

    def first(self) -> list[Genotype]:
        """The smallest student, and cells made by hand: at the recipe's sizes, and of every width at all and at half of the positions."""
        own = {"width": self.options.width, "members": self.options.members, "halvings": self.options.halvings}
        smallest = self._sized(identity_genotype(), self.widths[0], 1, 0)
        by_hand = [
            self._sized(residual_genotype(1), width, 1, halvings) for halvings in (0, 1) for width in self.widths
        ]
        return list(dict.fromkeys([smallest, self._sized(residual_genotype(1), **own), *by_hand]))

    def price(self, genotype: Genotype) -> Price:
        """The time of the student as a share of that of the costliest, which may be exceeded by chance."""
        if self._most is None:
            self._most = self.milliseconds(self.costliest())
        taken = self.milliseconds(genotype)
        return Price(min(taken / self._most, 1.0), taken)

    def costliest(self) -> Genotype:
        """The widest, deepest student of the longest convolutions, all of which see every position."""
        nodes = tuple(
            tuple(Edge(source=source, operation="conv7") for source in (0, 1 + node)) for node in range(NODES)
        )
        return self._sized(Genotype(cells=self.options.max_cells, nodes=nodes), self.widths[-1], 1, 0)

    def mutate(self, genotype: Genotype, rng: random.Random) -> Genotype:
        """One random change: of the cell as in the paper's space, of the shape, or of the positions that the cells see."""
        width, members, halvings = genotype.width or 0, genotype.members or 1, genotype.halvings or 0
        change = rng.choice(("cell", "cell", "shape", "positions"))
        if change == "cell":
            genotype = mutate_cell(genotype, self.options.max_cells, rng)
        elif change == "shape":
            place = self.widths.index(width) if width in self.widths else 0
            near = self.widths[max(place - 1, 0) : place + 2]
            width, members = rng.choice([s for s in self.shapes if s[0] in near and s != (width, members)])
        else:
            halvings += rng.choice((-1, 1))
        return self._sized(genotype, width, members, halvings)

    def draw(self, rng: random.Random) -> Genotype:
        """An architecture of the paper's space, with a shape and a number of halvings drawn uniformly."""
        cells = rng.randint(1, self.options.max_cells)
        return self._sized(random_genotype(cells, str(rng.random())), *rng.choice(self.shapes), rng.randint(0, cells))

    @staticmethod
    def _sized(genotype: Genotype, width: int, members: int, halvings: int) -> Genotype:
        """The genotype with sizes. It has at most as many halvings as cells: further ones have no effect."""
        halvings = min(max(halvings, 0), genotype.cells)
        return genotype.model_copy(update={"width": width, "members": members, "halvings": halvings})


def mutate_cell(genotype: Genotype, max_cells: int, rng: random.Random) -> Genotype:
    """One random change: another operation on an edge, another source of an edge, or one cell more or less."""
    change = rng.choice(("operation", "operation", "source", "depth"))
    if change == "depth":
        cells = genotype.cells + rng.choice((-1, 1))
        return genotype.model_copy(update={"cells": min(max(cells, 1), max_cells)})
    nodes = [list(node) for node in genotype.nodes]
    node = rng.randrange(NODES)
    position = rng.randrange(len(nodes[node]))
    edge = nodes[node][position]
    nodes[node][position] = (
        Edge(source=edge.source, operation=rng.choice(OPERATIONS[1:]))  # every operation but zero
        if change == "operation"
        else Edge(source=rng.choice(node_sources(node)), operation=edge.operation)
    )
    return genotype.model_copy(update={"nodes": tuple(tuple(edges) for edges in nodes)})


def network_key(genotype: Genotype, two_inputs: bool) -> tuple[Any, ...]:
    """A key that is equal for two genotypes whose networks compute the same function.

    The order of a node's edges does not matter. The two inputs of a single cell are the same, so it does not matter which
    one an edge reads. With a pair of texts they may differ, and then it matters.

    :param two_inputs: whether the two inputs of the first cell differ.
    """
    one_input = genotype.cells == 1 and not two_inputs
    return (
        genotype.cells,
        genotype.width,
        genotype.members,
        genotype.halvings,
        *(
            tuple(sorted((max(edge.source, 1) if one_input else edge.source, edge.operation) for edge in node))
            for node in genotype.nodes
        ),
    )
