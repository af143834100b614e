"""Untrained students of a task: how large they are, and how long they take in INT8 on this machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from compress.console import console
from compress.data.files import write_json
from compress.recipe.sections import CnnOptions
from compress.search.derive import Bound, cost_bound
from compress.search.student import sized
from compress.students import CnnStudent, CnnStudentConfig
from compress.students.genotype import Genotype, identity_genotype

Measure = Callable[[CnnStudent], float]  # median milliseconds of the INT8 form of a student at batch size 1


@dataclass(frozen=True)
class StudentFactory:
    """Builds untrained students of one task, to count their parameters and to measure their latency."""

    options: CnnOptions
    vocabulary: int  # number of token ids
    num_labels: int
    pair: bool

    def build(self, genotype: Genotype) -> CnnStudent:
        """An untrained student."""
        options = sized(self.options, genotype)
        return CnnStudent(
            CnnStudentConfig(
                vocab_size=self.vocabulary,
                width=options.width,
                members=options.members,
                halvings=options.halvings,
                genotype=genotype.dump(),
                pair=self.pair,
                pair_inputs=options.pair_inputs,
                num_labels=self.num_labels,
            )
        )

    def parameters(self, genotype: Genotype) -> int:
        """Number of parameters, with embeddings and all read-outs."""
        with torch.device("meta"):
            return count_weights(self.build(genotype))

    def cost_bound(self, max_cost: float) -> Bound:
        """The bound on the cost of one cell's edges that keeps the student within `max_cost`."""
        return cost_bound(max_cost, self.options.max_cells, self.options.halvings)

    def parameter_bound(self, max_parameters: int) -> Bound:
        """The bound on the parameters of one cell's edges that keeps the student within `max_parameters`."""
        depths = range(1, self.options.max_cells + 1)
        without_edges = {cells: self.parameters(identity_genotype(cells)) for cells in depths}
        return lambda cells: (max_parameters - without_edges[cells]) / cells


class LatencyMeter:
    """Milliseconds of each architecture. Each is measured once.

    :param kept: a file that keeps the times, so that another run finds the same ones; None: they are kept here only.
    """

    def __init__(self, measure: Measure, students: StudentFactory, kept: Path | None = None) -> None:
        self.measure, self.students, self._kept = measure, students, kept
        self.measured: dict[Genotype, float] = {} if kept is None else _read_times(kept)

    def milliseconds(self, genotype: Genotype, *, shown: bool = True) -> float:
        """Measure the architecture, or return the earlier measurement.

        :param shown: prints a new measurement.
        """
        if genotype not in self.measured:
            self.measured[genotype] = self.measure(self.students.build(genotype))
            if self._kept is not None:
                self._keep(self._kept)
            if shown:
                console.print(f"  {self.measured[genotype]:.3g} ms: {genotype}")
        return self.measured[genotype]

    def _keep(self, file: Path) -> None:
        # Another run may have measured some first, and both shall have the same times.
        self.measured = self.measured | _read_times(file)
        file.parent.mkdir(parents=True, exist_ok=True)
        times = [{"genotype": genotype.dump(), "ms": ms} for genotype, ms in self.measured.items()]
        write_json(file, {"times": times})


def _read_times(file: Path) -> dict[Genotype, float]:
    """The kept times; none if there is no file, or one that cannot be read."""
    try:
        times = json.loads(file.read_text(encoding="utf-8"))["times"]
        return {Genotype.model_validate(time["genotype"]): float(time["ms"]) for time in times}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return {}


def count_weights(module: torch.nn.Module) -> int:
    """Number of parameters of a module."""
    return sum(parameter.numel() for parameter in module.parameters())
