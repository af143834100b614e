"""Trials: architectures are trained briefly, each on its own, and evaluated on held-out texts.

A differentiable search prefers operations that learn fast, because all operations are hardly trained during the search:
identities and shallow cells (Shu et al., ICLR 2020). Therefore its result is only a starting point here. Evolution (Real et
al., AAAI 2019) starts from the search's most probable architectures and from some made by hand. Then it mutates the best
architecture so far, in the wide space one of the front. In the paper's space a trial starts from the weights of the supernet, so that
a short training is enough to compare architectures; in the wide one it starts as a final training does.

A short training favours what learns fast. With `search.rounds` the better half of the trials is trained anew for twice as long, and
so on (successive halving, Jamieson & Talwalkar, AISTATS 2016, arXiv 1502.07943), and the choice is among the last round.
"""

from __future__ import annotations

import math
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compress import processes
from compress.data.batches import Batch, EncodedSplit
from compress.distil.task import StudentTask
from compress.objectives.expertise import weighted
from compress.objectives.probes import adabert_loss
from compress.recipe import Recipe
from compress.recipe.sections import CnnOptions, SearchOptions
from compress.search.adabert import gamma_and_tau
from compress.search.space import Space, WideSpace
from compress.search.student import make_student
from compress.search.supernet import Supernet
from compress.search.texts import SearchTexts, search_texts
from compress.search.trial import TRIALS, Trial, best_of, better_half, pareto_front, read_trials, write_trials
from compress.students import CnnStudent
from compress.students.genotype import Genotype
from compress.training.evaluation import distance, model_inputs, predict_logits
from compress.training.loop import Schedule, fit
from compress.training.optimizer import adamw

# The weight of the cost in the choice of a parent, in multiples of β. The trials take these values in turn. Good
# architectures are needed at every cost, because the bound on the cost is set after the trials.
COST_WEIGHTS = (1.0, 0.0, 3.0, 0.3)
# Metrics of a trial, shown beside its training loss.
HELD_OUT_LOSS, HELD_OUT_ACCURACY = "held-out loss", "held-out accuracy"
# Bounds on the cost for which the wide space tries to find something: from the cheapest trial to twice the dearest one.
MIN_COST, DEARER = 1e-4, 2.0  # trials round their costs to four places
AVERAGE = 0.99  # decay of the moving average of the weights; the averaged weights are evaluated


def run_trials(
    task: StudentTask, recipe: Recipe, space: Space, supernet: Supernet | None, directory: Path, scratch: Path
) -> None:
    """Try `search.trials` architectures, in `search.rounds` rounds. Writes `trials.json` to `directory`.

    The trials learn from the texts of the search's weight steps and are evaluated on the texts of its architecture steps,
    never on dev. Finished trials are kept in `scratch`; a killed run continues from them.

    :param space: what is tried.
    :param supernet: of the search, whose weights a trial starts from; None: it starts as a final training does.
    """
    options = recipe.search
    trainer = _Trainer(task, recipe, supernet, search_texts(task))
    trials = read_trials(scratch) if (scratch / TRIALS).exists() else []
    total = sum(number for number, _ in options.rounds_of_trials())
    while len(trials) < total:
        number = len(trials)
        genotype, steps = _next(space, trials, options, random.Random(f"{task.seed}/{number}"))
        price = processes.broadcast_result(lambda: space.price(genotype))  # noqa: B023 - computed at once
        length = f", {steps:,} steps" if options.rounds > 1 else ""
        name = f"trial {number + 1} of {total}, {price.cost:.0%} of the costliest{length}"
        training = scratch / f"trial-{number}"
        loss, accuracy = trainer.run(genotype, steps, name, training)
        milliseconds = price.latency_ms and round(price.latency_ms, 4)
        trials.append(Trial(genotype, round(price.cost, 4), round(loss, 4), round(accuracy, 4), steps, milliseconds))
        processes.barrier()  # other processes may still read their weights there
        if processes.is_first():
            write_trials(trials, scratch)
            shutil.rmtree(training)
    if processes.is_first():
        write_trials(trials, directory)


def _next(space: Space, trials: Sequence[Trial], options: SearchOptions, rng: random.Random) -> tuple[Genotype, int]:
    """The architecture to try after these, and for how many steps."""
    done = 0
    better: list[Trial] = []
    for number, steps in options.rounds_of_trials():
        place = len(trials) - done
        if place < number:
            return better[place].genotype if done else _untried(space, trials, options, rng), steps
        better = better_half(trials[done : done + number])
        done += number
    raise AssertionError("all rounds are done")


def _untried(space: Space, trials: Sequence[Trial], options: SearchOptions, rng: random.Random) -> Genotype:
    """The architecture of the first round to try after these."""
    tried = {space.key(trial.genotype) for trial in trials}
    if options.strategy == "random":
        return space.untried(lambda _: space.draw(rng), space.draw(rng), tried)
    first = space.first()
    if len(trials) < len(first):
        return first[len(trials)]
    parent = _parent(space, trials, options, rng)
    return space.untried(lambda genotype: space.mutate(genotype, rng), parent.genotype, tried)


def _parent(space: Space, trials: Sequence[Trial], options: SearchOptions, rng: random.Random) -> Trial:
    if isinstance(space, WideSpace):
        # The best within a bound that somebody may set, all orders of magnitude alike: the costs lie so far apart that a weight would
        # keep to one end of the front, and most of the front's members are cheap.
        front = pareto_front(trials)
        least, most = front[0].cost, max(trial.cost for trial in trials)
        low = max(least, MIN_COST)
        bound = low * max(DEARER * most / low, 1.0) ** rng.random()
        return [trial for trial in front if trial.cost <= max(bound, least)][-1]
    best = best_of(trials, options.beta * COST_WEIGHTS[len(trials) % len(COST_WEIGHTS)])
    assert best is not None, "the first candidates were tried"
    return best


@dataclass(frozen=True)
class _Trainer:
    """Runs trials. All of them learn from the same texts in the same order."""

    task: StudentTask
    recipe: Recipe
    supernet: Supernet | None
    texts: SearchTexts

    def run(self, genotype: Genotype, steps: int, name: str, scratch: Path) -> tuple[float, float]:
        """Train a student of the genotype for so many steps; returns its loss and its accuracy on the held-out texts."""
        task, training = self.task, self.recipe.compress
        assert isinstance(self.recipe.student, CnnOptions), "only a cnn is searched"
        torch.manual_seed(task.seed)
        student = make_student(task, self.recipe.student, genotype, self.supernet)
        gamma, tau = gamma_and_tau(self.recipe.objective)

        def loss(batch: Batch, progress: float) -> Tensor:
            members = student.logits_of_members(**model_inputs(student, batch))
            losses = [adabert_loss(cells, batch.teacher_probes, batch.labels, gamma, tau) for cells in members]
            return weighted(torch.stack(losses).mean(dim=0), batch.weights).mean()

        # One that starts anew has far to go: it learns as in a final training, with a learning rate that falls.
        inherits = self.supernet is not None
        batches = self.texts.batches(training.batch_size, task.seed, steps)
        tables = student.embedding_tables()
        step = adamw(batches, student.parameters(), loss, training, constant=inherits, tables=tables)
        schedule = Schedule(1, 1, task.seed, keep_last=True, average=AVERAGE)
        metrics = fit(name, student, [step], partial(_held_out, split=self.texts.held_out), schedule, scratch).history[
            -1
        ]
        return metrics[HELD_OUT_LOSS], metrics[HELD_OUT_ACCURACY]


def _held_out(model: nn.Module, split: EncodedSplit) -> dict[str, float]:
    """Accuracy and loss on held-out texts, infinite where the training diverged: NaN would be neither more nor less than another's.

    The distance to the teacher tells students apart that have as many texts right.
    """
    logits = predict_logits(cast(CnnStudent, model), split)
    accuracy = float((logits.argmax(dim=1) == split.labels).float().mean())
    error = F.cross_entropy(logits, split.labels) if split.teacher is None else distance(logits, split.teacher.logits)
    loss = float(error)
    return {"metric": accuracy, HELD_OUT_LOSS: loss if math.isfinite(loss) else math.inf, HELD_OUT_ACCURACY: accuracy}
