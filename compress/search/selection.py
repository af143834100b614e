"""Select one architecture from the results of a search and of its trials, within the recipe's bounds."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compress.console import console
from compress.recipe.sections import CnnOptions, SearchOptions
from compress.runtime.errors import UserError
from compress.search.adabert import read_search
from compress.search.derive import Bound, ParetoFront, architecture_cost, cost_bound
from compress.search.trials import Trial, best_of, pareto_front, read_trials
from compress.students import CnnStudent, CnnStudentConfig
from compress.students.genotype import OPERATIONS, Genotype, identity_genotype
from compress.students.operations import build_operation

Measure = Callable[[CnnStudent], float]  # median milliseconds of the INT8 form of a student at batch size 1
BISECTION_STEPS = 7  # of the cost, to find the highest one that is fast enough


@dataclass(frozen=True)
class StudentFactory:
    """Builds untrained students of one task, to count their parameters and to measure their latency."""

    options: CnnOptions
    vocabulary: int  # number of token ids
    num_labels: int
    pair: bool

    def build(self, genotype: Genotype) -> CnnStudent:
        """An untrained student."""
        return CnnStudent(
            CnnStudentConfig(
                vocab_size=self.vocabulary,
                width=self.options.width,
                members=self.options.members,
                halvings=self.options.halvings,
                genotype=genotype.model_dump(mode="json"),
                pair=self.pair,
                pair_inputs=self.options.pair_inputs,
                num_labels=self.num_labels,
            )
        )

    def parameters(self, genotype: Genotype) -> int:
        """Number of parameters, with embeddings and all read-outs."""
        with torch.device("meta"):
            return _count(self.build(genotype))

    def cost_bound(self, max_cost: float) -> Bound:
        """The bound on the cost of one cell's edges that keeps the student within `max_cost`."""
        return cost_bound(max_cost, self.options.max_cells, self.options.halvings)

    def parameter_bound(self, max_parameters: int) -> Bound:
        """The bound on the parameters of one cell's edges that keeps the student within `max_parameters`."""
        depths = range(1, self.options.max_cells + 1)
        without_edges = {cells: self.parameters(identity_genotype(cells)) for cells in depths}
        return lambda cells: (max_parameters - without_edges[cells]) / cells


class LatencyMeter:
    """Milliseconds of each architecture. Each is measured once."""

    def __init__(self, measure: Measure, students: StudentFactory) -> None:
        self.measure, self.students = measure, students
        self.measured: dict[Genotype, float] = {}

    def milliseconds(self, genotype: Genotype, *, shown: bool = True) -> float:
        """Measure the architecture, or return the earlier measurement.

        :param shown: prints a new measurement.
        """
        if genotype not in self.measured:
            self.measured[genotype] = self.measure(self.students.build(genotype))
            if shown:
                console.print(f"  {self.measured[genotype]:.3g} ms: {genotype}")
        return self.measured[genotype]


class Selector(ABC):
    """Ranks the architectures within the recipe's bounds on cost and parameters."""

    @abstractmethod
    def best(self, max_cost: float) -> Genotype | None:
        """The best architecture that also costs at most `max_cost`, or None."""

    @abstractmethod
    def best_fast(self, meter: LatencyMeter, target: float) -> Genotype | None:
        """The best architecture that takes at most `target` milliseconds, or None.

        An architecture that costs more than one that was too slow is not measured.
        """


@dataclass(frozen=True)
class LikeliestSelector(Selector):
    """Ranks by the probability that the search gives an architecture, as in the paper."""

    front: ParetoFront  # its costs: relative cost, parameters
    options: SearchOptions
    students: StudentFactory

    def best(self, max_cost: float) -> Genotype | None:
        """See `Selector.best`."""
        limit = self.options.max_parameters
        parameter_bound = (lambda cells: math.inf) if limit is None else self.students.parameter_bound(limit)
        return self.front.likeliest(self.students.cost_bound(max_cost), parameter_bound)

    def best_fast(self, meter: LatencyMeter, target: float) -> Genotype | None:
        """See `Selector.best_fast`. The cost is bisected, because a higher cost mostly means a higher latency."""
        best, low, high = None, 0.0, self.options.max_cost
        for _ in range(BISECTION_STEPS):
            middle = (low + high) / 2
            genotype = self.best(middle)
            assert genotype is not None, "an architecture without cost is within every bound on the cost"
            if meter.milliseconds(genotype) <= target:
                best, low = genotype, middle
            else:
                high = middle
        return best


@dataclass(frozen=True)
class TrialSelector(Selector):
    """Ranks by the loss that an architecture had in its trial."""

    trials: list[Trial]
    options: SearchOptions
    students: StudentFactory
    bounded: bool  # whether the recipe sets a bound on the cost, in any unit

    def best(self, max_cost: float) -> Genotype | None:
        """See `Selector.best`. Without any bound in the recipe, the ranking is by loss + β · cost."""
        best = best_of(self._allowed(max_cost), 0.0 if self.bounded else self.options.beta)
        return best.genotype if best else None

    def best_fast(self, meter: LatencyMeter, target: float) -> Genotype | None:
        """See `Selector.best_fast`."""
        too_slow = math.inf  # lowest cost of an architecture that was too slow
        for trial in sorted(self._allowed(math.inf), key=lambda trial: trial.loss):
            if trial.cost < too_slow:
                if meter.milliseconds(trial.genotype) <= target:
                    return trial.genotype
                too_slow = trial.cost
        return None

    def _allowed(self, max_cost: float) -> list[Trial]:
        """The trials within `max_cost` and within the recipe's bounds on cost and parameters."""
        limit = self.options.max_parameters
        cost, parameters = min(max_cost, self.options.max_cost), math.inf if limit is None else limit
        return [t for t in self.trials if t.cost <= cost and self.students.parameters(t.genotype) <= parameters]


def select_searched(
    artifacts: dict[str, Path],
    options: SearchOptions,
    students: StudentFactory,
    target: float | None,
    measure: Measure | None,
) -> tuple[Genotype, dict[str, Any]]:
    """The best architecture of a search within the recipe's bounds, and its report for `genotype.json`.

    If no architecture is fast enough, the cheapest one is selected and a warning is printed.

    :param artifacts: holds the stage `search` and, if the recipe has trials, the stage `trials`.
    :param target: the highest latency in milliseconds; None: no bound.
    :param measure: needed if there is a target. It also tells the times of what was tried.
    :raises UserError: every student has more parameters than the recipe allows.
    """
    alpha, depth, costs = read_search(artifacts["search"])
    trials = read_trials(artifacts["trials"]) if options.trials else []
    selector: Selector
    if trials:
        bounded = options.max_cost < 1 or options.max_parameters is not None or target is not None
        selector = TrialSelector(trials, options, students, bounded)
    else:
        by_operation = [torch.tensor([costs[name] for name in OPERATIONS]), operation_sizes(students.options)]
        selector = LikeliestSelector(ParetoFront(alpha, depth, by_operation), options, students)
    genotype = _best_within_bounds(selector, options, students)
    report: dict[str, Any] = {}
    meter = None if measure is None else LatencyMeter(measure, students)
    if target is not None:
        assert meter is not None, "a target latency needs a way to measure"
        genotype = _fast_enough(selector, genotype, meter, target)
        taken = meter.milliseconds(genotype)
        report = {"target_latency_ms": target, "latency_ms": round(taken, 4), "target_met": taken <= target}
    cost = architecture_cost(genotype, costs, students.options.max_cells, students.options.halvings)
    if trials:
        report["front"] = [_of_front(trial, meter) for trial in pareto_front(trials)]
    return genotype, _report(genotype, cost, trials, options, students) | report


def _of_front(trial: Trial, meter: LatencyMeter | None) -> dict[str, Any]:
    """An architecture that no tried one beats in both cost and loss."""
    times = {} if meter is None else {"latency_ms": round(meter.milliseconds(trial.genotype, shown=False), 4)}
    return {"cost": trial.cost, **times, "loss": trial.loss, "genotype": str(trial.genotype)}


def operation_sizes(options: CnnOptions) -> Tensor:
    """Number of parameters of each operation of a student (O,), all members together."""
    channels = options.width * options.members
    return torch.tensor([_count(build_operation(name, channels, options.members)) for name in OPERATIONS])


def _best_within_bounds(selector: Selector, options: SearchOptions, students: StudentFactory) -> Genotype:
    best = selector.best(options.max_cost)
    if best is None:
        raise UserError(
            f"search.max_parameters: no student has only {options.max_parameters:,} parameters; "
            f"the smallest has {students.parameters(identity_genotype()):,}, nearly all of them in word embeddings of student.width"
        )
    return best


def _fast_enough(selector: Selector, best: Genotype, meter: LatencyMeter, target: float) -> Genotype:
    """The best architecture that takes at most `target` milliseconds, or the cheapest one if none does.

    :param best: the best architecture without a bound on the latency.
    """
    if meter.milliseconds(best) <= target:
        return best
    cheapest = selector.best(0.0)
    assert cheapest is not None, "the architecture without cost is always a candidate"
    if meter.milliseconds(cheapest) > target:
        console.print(
            f"  [bold yellow]target of {target:g} ms: not met, the cheapest architecture takes {meter.measured[cheapest]:.3g} ms; "
            "a smaller student.width or data.max_length would be faster[/]"
        )
        return cheapest
    return selector.best_fast(meter, target) or cheapest


def _report(
    genotype: Genotype, cost: float, trials: list[Trial], options: SearchOptions, students: StudentFactory
) -> dict[str, Any]:
    """Cost, parameters and trial of the selected architecture, each with the recipe's bound."""
    report: dict[str, Any] = {
        "cost": round(cost, 4),
        "max_cost": options.max_cost,
        "parameters": students.parameters(genotype),
    }
    if tried := [trial for trial in trials if trial.genotype == genotype]:
        report |= {"loss": tried[0].loss, "accuracy": tried[0].accuracy, "tried": len(trials)}
    if options.max_parameters is not None:
        report["max_parameters"] = options.max_parameters
    return report


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
