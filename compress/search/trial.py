"""A trial's result, and which trials are better: by loss and cost, on the front of both, in a later round."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from compress.data.files import write_json
from compress.students.genotype import Genotype

TRIALS = "trials.json"


@dataclass(frozen=True)
class Trial:
    """An architecture and its result."""

    genotype: Genotype
    cost: float  # see `Space.price`
    loss: float  # on the held-out texts: the distance to the teacher's answers; without a teacher, the cross entropy with the labels
    accuracy: float  # on the held-out texts
    steps: int  # of its training
    latency_ms: float | None = None  # where the whole student was timed

    def loss_with_cost(self, cost_weight: float) -> float:
        """The loss plus the weighted cost."""
        return self.loss + cost_weight * self.cost


def best_of(trials: Iterable[Trial], cost_weight: float) -> Trial | None:
    """The trial with the smallest loss plus weighted cost; None if there are no trials."""
    return min(trials, key=lambda trial: trial.loss_with_cost(cost_weight), default=None)


def pareto_front(trials: Iterable[Trial]) -> list[Trial]:
    """The trials that no other one beats in both cost and loss, the cheapest first."""
    front: list[Trial] = []
    for trial in sorted(trials, key=lambda trial: (trial.cost, trial.loss)):
        if not front or trial.loss < front[-1].loss:
            front.append(trial)
    return front


def read_trials(directory: Path) -> list[Trial]:
    """The trials that `run_trials` wrote."""
    entries = json.loads((directory / TRIALS).read_text(encoding="utf-8"))["trials"]
    return [Trial(**entry | {"genotype": Genotype.model_validate(entry["genotype"])}) for entry in entries]


def write_trials(trials: Sequence[Trial], directory: Path) -> None:
    """Write what `read_trials` reads."""
    directory.mkdir(parents=True, exist_ok=True)
    entries = [asdict(trial) | {"genotype": trial.genotype.dump()} for trial in trials]
    write_json(directory / TRIALS, {"trials": entries})


def last_round(trials: Sequence[Trial]) -> list[Trial]:
    """Those that were trained the longest: only losses after as many steps can be compared."""
    most = max((trial.steps for trial in trials), default=0)
    return [trial for trial in trials if trial.steps == most]


def better_half(trials: Sequence[Trial]) -> list[Trial]:
    """Half of the trials, rounded up: those that fewer others beat in both cost and loss.

    So some of every cost remain (non-dominated sorting, Deb et al. 2002, as in the successive halving of several objectives of
    Schmucker et al., arXiv 2106.12639). Of the first front that does not fit, those remain that lie apart in cost.
    """
    wanted = (len(trials) + 1) // 2
    kept: list[Trial] = []
    rest = list(trials)
    while len(kept) < wanted:
        front = pareto_front(rest)
        rest = [trial for trial in rest if trial not in front]
        kept += _spread(front, min(wanted - len(kept), len(front)))
    return kept


def _spread(front: Sequence[Trial], number: int) -> list[Trial]:
    """So many of a front, evenly from the cheapest to the best; of one, the best."""
    last = len(front) - 1
    places = [last] if number == 1 else [round(i * last / (number - 1)) for i in range(number)]
    return [front[place] for place in places]
