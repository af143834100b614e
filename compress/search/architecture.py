"""From a search to the student's architecture, within the bounds the user sets."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compress.console import console
from compress.data.corpus import Corpus
from compress.data.files import write_json
from compress.recipe import Recipe
from compress.recipe.sections import CnnOptions, SearchOptions
from compress.runtime.encode import TextEncoder
from compress.runtime.errors import UserError
from compress.search.adabert import read_search
from compress.search.cost import costs_of
from compress.search.derive import Candidates, Room, architecture_cost, cost_room
from compress.search.draw import draw_cell
from compress.search.trials import Trial, best_of, read_trials
from compress.students import CnnStudent, CnnStudentConfig
from compress.students.genotype import (
    OPERATIONS,
    Genotype,
    bare_genotype,
    random_genotype,
    read_genotype,
    residual_genotype,
)
from compress.students.operations import build_operation

Measure = Callable[[CnnStudent], float]  # median milliseconds of its INT8 form at batch 1
DRAWS = 20_000
HALVINGS = 7  # of the interval that the bound on the cost lies in, until a latency is met


def choose_architecture(
    recipe: Recipe,
    corpus: Corpus,
    encoder: TextEncoder,
    vocabulary: int,
    artifacts: dict[str, Path],
    directory: Path,
    measure: Measure | None,
    *,
    title: str,
) -> None:
    """Take the best architecture that was tried, or the likeliest of a search without trials, or the random, hand-made or given one.

    Writes `genotype.json` and a drawing.

    :param encoder: the teacher's, which the student keeps.
    :param vocabulary: how many tokens there are embeddings of.
    :param artifacts: directories of the stages `search`, where the recipe searches, and `trials`, where it tries.
    :param measure: needed where the recipe has a target latency.
    :raises UserError: the file given is no genotype, or no student is small enough.
    """
    options = recipe.student
    assert isinstance(options, CnnOptions), "only a cnn has an architecture"
    report: dict[str, Any] = {"architecture": options.architecture}
    if options.architecture == "searched":
        found = _Found.read(artifacts, options, recipe.search, _Blank(options, corpus, vocabulary))
        genotype = found.choose(measure)
        report |= found.report(genotype)
    elif options.architecture == "random" and recipe.search.max_cost < 1:
        costs = costs_of(recipe.search, options.width, _median_length(corpus, encoder))
        genotype = random_genotype_of_cost(options.max_cells, recipe.seed, costs, recipe.search.max_cost)
        cost = architecture_cost(genotype, costs, options.max_cells)
        report |= {"cost": round(cost, 4), "max_cost": recipe.search.max_cost}
    elif options.architecture == "random":
        genotype = random_genotype(options.max_cells, recipe.seed)
    elif options.architecture == "residual":
        genotype = residual_genotype(options.max_cells)
    else:
        genotype = read_genotype(Path(options.architecture))
    share = f", {report['cost']:.0%} of the costliest" if "cost" in report else ""
    console.print(f"  {options.architecture}: {genotype}{share}")
    draw_cell(genotype, directory, f"{title}: cell × {genotype.cells}")
    write_json(directory / "genotype.json", {"genotype": genotype.model_dump(mode="json"), **report})


def random_genotype_of_cost(max_cells: int, seed: int, costs: dict[str, float], max_cost: float) -> Genotype:
    """A random architecture that costs as much as it may, within 5 %: the control of a search with that bound.

    :raises UserError: hardly any architecture costs as much.
    """
    rng = random.Random(f"genotype of cost/{seed}")
    for draw in range(DRAWS):
        genotype = random_genotype(rng.randint(1, max_cells), f"{seed}/{draw}")
        if 0.95 * max_cost <= architecture_cost(genotype, costs, max_cells) <= max_cost:
            return genotype
    raise UserError(f"search.max_cost: none of {DRAWS:,} random architectures costs {max_cost:g} of the costliest one")


def _median_length(corpus: Corpus, encoder: TextEncoder) -> int:
    train = corpus.splits["train"]
    return int(statistics.median(len(e) for e in encoder.encode(train.texts, train.texts_b)))


@dataclass(frozen=True)
class _Blank:
    """Untrained students of the task."""

    options: CnnOptions
    corpus: Corpus
    vocabulary: int

    def student(self, genotype: Genotype) -> CnnStudent:
        return CnnStudent(
            CnnStudentConfig(
                vocab_size=self.vocabulary,
                width=self.options.width,
                genotype=genotype.model_dump(mode="json"),
                pair=self.corpus.pair,
                pair_inputs=self.options.pair_inputs,
                num_labels=len(self.corpus.labels),
            )
        )

    def room(self, parameters: int) -> Room:
        """The student, embeddings and all read-outs included, has so many parameters at most."""
        bare = {cells: self.parameters(bare_genotype(cells)) for cells in range(1, self.options.max_cells + 1)}
        return lambda cells: (parameters - bare[cells]) / cells

    def parameters(self, genotype: Genotype) -> int:
        with torch.device("meta"):
            return _count(self.student(genotype))


@dataclass
class _Found:
    """What a search found likely and trials found good, and what of it the recipe's bounds allow."""

    candidates: Candidates  # priced by cost and by parameters
    trials: list[Trial]  # none: what was likely is believed
    costs: dict[str, float]
    options: SearchOptions
    blank: _Blank
    measured: dict[Genotype, float] = field(default_factory=dict)  # milliseconds

    @classmethod
    def read(cls, artifacts: dict[str, Path], student: CnnOptions, options: SearchOptions, blank: _Blank) -> _Found:
        alpha, depth, costs = read_search(artifacts["search"])
        prices = [torch.tensor([costs[name] for name in OPERATIONS]), operation_sizes(student.width)]
        trials = read_trials(artifacts["trials"]) if options.trials else []
        return cls(Candidates(alpha, depth, prices), trials, costs, options, blank)

    def choose(self, measure: Measure | None) -> Genotype:
        """The best architecture within the bounds; where none is fast enough, the cheapest, and it is said so."""
        whole = self._within(self.options.max_cost)
        if whole is None:
            raise UserError(
                f"search.max_parameters: no student has only {self.options.max_parameters:,} parameters; "
                f"the smallest has {self.blank.parameters(bare_genotype()):,}, nearly all of them in word embeddings of student.width"
            )
        if self.options.target_latency_ms is None:
            return whole
        assert measure is not None, "a target latency needs a way to measure"
        return self._fast_enough(whole, measure, self.options.target_latency_ms)

    def _fast_enough(self, whole: Genotype, measure: Measure, target: float) -> Genotype:
        """The best that takes `target` milliseconds at most, `whole` being the best however long it takes.

        What costs more than an architecture that was too slow is not timed.
        """
        if self._milliseconds(whole, measure) <= target:
            return whole
        cheapest = self._within(0.0)
        assert cheapest is not None, "an architecture that costs nothing is always tried, and always possible"
        if self._milliseconds(cheapest, measure) > target:
            console.print(
                f"  [bold yellow]target of {target:g} ms: not met, the cheapest architecture takes {self.measured[cheapest]:.3g} ms; "
                "a smaller student.width or data.max_length would be faster[/]"
            )
            return cheapest
        best = self._best_fast if self.trials else self._likeliest_fast
        return best(cheapest, measure, target)

    def _best_fast(self, cheapest: Genotype, measure: Measure, target: float) -> Genotype:
        too_slow = math.inf
        for trial in sorted(self._allowed(), key=lambda trial: trial.loss):
            if trial.cost < too_slow:
                if self._milliseconds(trial.genotype, measure) <= target:
                    return trial.genotype
                too_slow = trial.cost
        return cheapest

    def _likeliest_fast(self, cheapest: Genotype, measure: Measure, target: float) -> Genotype:
        best, low, high = cheapest, 0.0, self.options.max_cost
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            genotype = self._within(middle) or best
            if self._milliseconds(genotype, measure) <= target:
                best, low = genotype, middle
            else:
                high = middle
        return best

    def report(self, genotype: Genotype) -> dict[str, Any]:
        """What `genotype.json` says of the bounds and whether they are met."""
        report: dict[str, Any] = {
            "cost": round(architecture_cost(genotype, self.costs, self.blank.options.max_cells), 4),
            "max_cost": self.options.max_cost,
            "parameters": self.blank.parameters(genotype),
        }
        if tried := [trial for trial in self.trials if trial.genotype == genotype]:
            report |= {"loss": tried[0].loss, "accuracy": tried[0].accuracy, "tried": len(self.trials)}
        if self.options.max_parameters is not None:
            report["max_parameters"] = self.options.max_parameters
        if (target := self.options.target_latency_ms) is not None:
            took = self.measured[genotype]
            report |= {"target_latency_ms": target, "latency_ms": round(took, 4), "target_met": took <= target}
        return report

    def _within(self, max_cost: float) -> Genotype | None:
        return self._best_tried(max_cost) if self.trials else self._likeliest(max_cost)

    def _best_tried(self, max_cost: float) -> Genotype | None:
        """Of least loss; where the user sets no bound, of least loss with the price of its cost."""
        best = best_of(self._allowed(max_cost), 0.0 if self.options.bounded else self.options.beta)
        return best.genotype if best else None

    def _allowed(self, max_cost: float = math.inf) -> list[Trial]:
        """What was tried and keeps to `max_cost` and the recipe's bounds, but for the latency."""
        parameters = math.inf if self.options.max_parameters is None else self.options.max_parameters
        limit = min(max_cost, self.options.max_cost)
        return [t for t in self.trials if t.cost <= limit and self.blank.parameters(t.genotype) <= parameters]

    def _likeliest(self, max_cost: float) -> Genotype | None:
        parameters = self.options.max_parameters
        size_room = (lambda cells: math.inf) if parameters is None else self.blank.room(parameters)
        return self.candidates.likeliest(cost_room(max_cost, self.blank.options.max_cells), size_room)

    def _milliseconds(self, genotype: Genotype, measure: Measure) -> float:
        if genotype not in self.measured:
            self.measured[genotype] = measure(self.blank.student(genotype))
            console.print(f"  {self.measured[genotype]:.3g} ms: {genotype}")
        return self.measured[genotype]


def operation_sizes(width: int) -> Tensor:
    """Parameters (O,) of each operation."""
    return torch.tensor([_count(build_operation(name, width)) for name in OPERATIONS])


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
