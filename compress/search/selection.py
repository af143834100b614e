"""Select one architecture from the results of a search and of its trials, within the recipe's bounds."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compress.console import console
from compress.recipe.sections import CnnOptions, SearchOptions
from compress.runtime.errors import UserError
from compress.search.adabert import read_search
from compress.search.derive import ParetoFront, architecture_cost
from compress.search.latency import LatencyMeter, Measure, StudentFactory, count_weights
from compress.search.trial import Trial, best_of, last_round, pareto_front, read_trials
from compress.students.genotype import OPERATIONS, Genotype, identity_genotype
from compress.students.operations import build_operation

BISECTION_STEPS = 7  # of the cost, to find the highest one that is fast enough


class Selector(ABC):
    """Ranks the architectures within the recipe's bounds on cost and parameters."""

    @abstractmethod
    def best(self, max_cost: float) -> Genotype | None:
        """The best architecture that also costs at most `max_cost`, or None."""

    @abstractmethod
    def cheapest(self) -> Genotype | None:
        """The architecture that costs the least, within the bound on the parameters only, or None."""

    @abstractmethod
    def fewest_parameters(self) -> int:
        """Of the smallest student, whatever the bounds."""

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

    def cheapest(self) -> Genotype | None:
        """See `Selector.cheapest`. There is one without any cost."""
        return self.best(0.0)

    def fewest_parameters(self) -> int:
        """See `Selector.fewest_parameters`."""
        return self.students.parameters(identity_genotype())

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
    """Ranks by the loss that an architecture had in its longest trial; one that got into a later round is before all that did not."""

    trials: list[Trial]
    options: SearchOptions
    students: StudentFactory
    bounded: bool  # whether the recipe sets a bound on the cost, in any unit

    def best(self, max_cost: float) -> Genotype | None:
        """See `Selector.best`. Without any bound in the recipe, the ranking is by loss + β · cost."""
        best = best_of(last_round(self._allowed(max_cost)), 0.0 if self.bounded else self.options.beta)
        return best.genotype if best else None

    def cheapest(self) -> Genotype | None:
        """See `Selector.cheapest`."""
        small = [trial for trial in self.trials if self._is_small(trial)]
        return min(small, key=lambda trial: (trial.cost, trial.loss)).genotype if small else None

    def fewest_parameters(self) -> int:
        """See `Selector.fewest_parameters`."""
        return min(self.students.parameters(trial.genotype) for trial in self.trials)

    def best_fast(self, meter: LatencyMeter, target: float) -> Genotype | None:
        """See `Selector.best_fast`."""
        too_slow = math.inf  # lowest cost of an architecture that was too slow
        for trial in sorted(self._allowed(math.inf), key=lambda trial: (-trial.steps, trial.loss)):
            if trial.cost < too_slow:
                if meter.milliseconds(trial.genotype) <= target:
                    return trial.genotype
                too_slow = trial.cost
        return None

    def _allowed(self, max_cost: float) -> list[Trial]:
        """The trials within `max_cost` and within the recipe's bounds on cost and parameters."""
        cost = min(max_cost, self.options.max_cost)
        return [trial for trial in self.trials if trial.cost <= cost and self._is_small(trial)]

    def _is_small(self, trial: Trial) -> bool:
        limit = self.options.max_parameters
        return limit is None or self.students.parameters(trial.genotype) <= limit


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
    trials = read_trials(artifacts["trials"]) if options.trials else []
    selector: Selector
    if trials:
        bounded = options.max_cost < 1 or options.max_parameters is not None or target is not None
        selector = TrialSelector(trials, options, students, bounded)
    else:
        alpha, depth, costs = read_search(artifacts["search"])
        by_operation = [torch.tensor([costs[name] for name in OPERATIONS]), operation_sizes(students.options)]
        selector = LikeliestSelector(ParetoFront(alpha, depth, by_operation), options, students)
    genotype = _best_within_bounds(selector, options)
    report: dict[str, Any] = {}
    meter = None if measure is None else LatencyMeter(measure, students)
    if meter is not None:
        meter.measured |= {trial.genotype: trial.latency_ms for trial in trials if trial.latency_ms is not None}
    if target is not None:
        assert meter is not None, "a target latency needs a way to measure"
        genotype = _fast_enough(selector, genotype, meter, target)
        taken = meter.milliseconds(genotype)
        report = {"target_latency_ms": target, "latency_ms": round(taken, 4), "target_met": taken <= target}
    tried = next((trial for trial in reversed(trials) if trial.genotype == genotype), None)  # its longest
    if tried is None:
        cost = architecture_cost(genotype, costs, students.options.max_cells, students.options.halvings)
    else:
        cost = tried.cost
        report |= {"loss": tried.loss, "accuracy": tried.accuracy, "tried": options.trials}
        report["front"] = [_of_front(trial, meter) for trial in pareto_front(last_round(trials))]
    return genotype, _report(genotype, cost, options, students) | report


def _of_front(trial: Trial, meter: LatencyMeter | None) -> dict[str, Any]:
    """An architecture that no tried one beats in both cost and loss."""
    times = {} if meter is None else {"latency_ms": round(meter.milliseconds(trial.genotype, shown=False), 4)}
    return {"cost": trial.cost, **times, "loss": trial.loss, "genotype": str(trial.genotype)}


def operation_sizes(options: CnnOptions) -> Tensor:
    """Number of parameters of each operation of a student (O,), all members together."""
    channels = options.width * options.members
    return torch.tensor([count_weights(build_operation(name, channels, options.members)) for name in OPERATIONS])


def _best_within_bounds(selector: Selector, options: SearchOptions) -> Genotype:
    best = selector.best(options.max_cost)
    if best is None and (cheapest := selector.cheapest()) is not None:
        console.print(
            f"  [bold yellow]search.max_cost = {options.max_cost:g}: not met, this is the cheapest that was tried[/]"
        )
        return cheapest
    if best is None:
        raise UserError(
            f"search.max_parameters: no student has only {options.max_parameters:,} parameters; "
            f"the smallest has {selector.fewest_parameters():,}, nearly all of them in word embeddings of student.width"
        )
    return best


def _fast_enough(selector: Selector, best: Genotype, meter: LatencyMeter, target: float) -> Genotype:
    """The best architecture that takes at most `target` milliseconds, or the cheapest one if none does.

    :param best: the best architecture without a bound on the latency.
    """
    if meter.milliseconds(best) <= target:
        return best
    cheapest = selector.cheapest()
    assert cheapest is not None, "one was within the bounds"
    if meter.milliseconds(cheapest) > target:
        console.print(
            f"  [bold yellow]target of {target:g} ms: not met, the cheapest architecture takes {meter.measured[cheapest]:.3g} ms; "
            "a smaller student.width or data.max_length would be faster[/]"
        )
        return cheapest
    return selector.best_fast(meter, target) or cheapest


def _report(genotype: Genotype, cost: float, options: SearchOptions, students: StudentFactory) -> dict[str, Any]:
    """Cost and parameters of the selected architecture, each with the recipe's bound."""
    report: dict[str, Any] = {
        "cost": round(cost, 4),
        "max_cost": options.max_cost,
        "parameters": students.parameters(genotype),
    }
    if options.max_parameters is not None:
        report["max_parameters"] = options.max_parameters
    return report
