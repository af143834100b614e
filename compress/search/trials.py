"""Trials: architectures are trained briefly, each on its own, and evaluated on held-out texts.

A differentiable search prefers operations that learn fast, because all operations are hardly trained during the search:
identities and shallow cells (Shu et al., ICLR 2020). Therefore its result is only a starting point here. Evolution (Real et
al., AAAI 2019) starts from the search's most probable architectures and from some made by hand. Then it mutates the best
architecture so far: one edge, or the depth. A trial starts from the weights of the supernet, so a short training is enough
to compare architectures.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compress import processes
from compress.data.batches import Batch
from compress.data.files import write_json
from compress.distil.task import StudentTask
from compress.objectives.expertise import weighted
from compress.objectives.probes import adabert_loss
from compress.recipe import Recipe
from compress.recipe.sections import CnnOptions
from compress.search.adabert import gamma_and_tau, read_search
from compress.search.derive import ParetoFront, architecture_cost, cost_bound
from compress.search.student import make_student, read_supernet
from compress.search.supernet import Supernet
from compress.search.texts import SearchTexts, search_texts
from compress.students import CnnStudent
from compress.students.genotype import (
    NODES,
    OPERATIONS,
    Edge,
    Genotype,
    identity_genotype,
    node_sources,
    residual_genotype,
)
from compress.training.evaluation import model_inputs, predict_logits
from compress.training.loop import Schedule, fit
from compress.training.optimizer import adamw

TRIALS = "trials.json"
# Upper bounds of the cost at which the search's most probable architecture is tried.
COST_BOUNDS = (1.0, 0.3, 0.15, 0.07)
# The weight of the cost in the choice of a parent, in multiples of β. The trials take these values in turn. Good
# architectures are needed at every cost, because the bound on the cost is set after the trials.
COST_WEIGHTS = (1.0, 0.0, 3.0, 0.3)
AVERAGE = 0.99  # decay of the moving average of the weights; the averaged weights are evaluated


@dataclass(frozen=True)
class Trial:
    """An architecture and its result."""

    genotype: Genotype
    cost: float  # see `architecture_cost`
    loss: float  # cross entropy with the labels of the held-out texts
    accuracy: float  # on the held-out texts

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


def run_trials(task: StudentTask, recipe: Recipe, search: Path, directory: Path, scratch: Path) -> None:
    """Try `search.trials` architectures. Writes `trials.json` to `directory`.

    The trials learn from the texts of the search's weight steps and are evaluated on the texts of its architecture steps,
    never on dev. Finished trials are kept in `scratch`; a killed run continues from them.

    :param search: the directory of the search's result.
    """
    options, student = recipe.search, recipe.student
    assert isinstance(student, CnnOptions), "only a cnn is searched"
    alpha, depth, costs = read_search(search)
    trainer = _Trainer(task, recipe, read_supernet(task, student, search), search_texts(task))
    initial = initial_candidates(alpha, depth, costs, student.halvings)
    two_inputs = task.pair and student.pair_inputs != "together"
    trials = read_trials(scratch) if (scratch / TRIALS).exists() else []
    while len(trials) < options.trials:
        number = len(trials)
        if number < len(initial):
            genotype = initial[number]
        else:
            parent = best_of(trials, options.beta * COST_WEIGHTS[number % len(COST_WEIGHTS)])
            assert parent is not None, "the initial candidates were tried"
            rng = random.Random(f"{task.seed}/{number}")
            genotype = _mutate_to_untried(parent.genotype, trials, student.max_cells, two_inputs, rng)
        cost = architecture_cost(genotype, costs, student.max_cells, student.halvings)
        name = f"trial {number + 1} of {options.trials}, {cost:.0%} of the costliest"
        training = scratch / f"trial-{number}"
        loss, accuracy = trainer.run(genotype, name, training)
        trials.append(Trial(genotype, round(cost, 4), round(loss, 4), round(accuracy, 4)))
        processes.barrier()  # other processes may still read their weights there
        if processes.is_first():
            _write(trials, scratch)
            shutil.rmtree(training)
    if processes.is_first():
        _write(trials, directory)


def initial_candidates(alpha: Tensor, depth: Tensor, costs: dict[str, float], halvings: int = 0) -> list[Genotype]:
    """The start of the evolution: the smallest student, some made by hand, and the search's most probable at several costs.

    :param alpha: (E, O) logits.
    :param depth: (K_max,) logits.
    :param halvings: cells that see half of the positions of the one before.
    """
    candidates = ParetoFront(alpha, depth, [torch.tensor([costs[name] for name in OPERATIONS])])
    likely = [candidates.likeliest(cost_bound(bound, len(depth), halvings)) for bound in COST_BOUNDS]
    by_hand = [residual_genotype(cells) for cells in (1, len(depth))]
    return list(dict.fromkeys([identity_genotype(), *by_hand, *(genotype for genotype in likely if genotype)]))


def mutate(genotype: Genotype, max_cells: int, rng: random.Random) -> Genotype:
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
    return genotype.cells, *(
        tuple(sorted((max(edge.source, 1) if one_input else edge.source, edge.operation) for edge in node))
        for node in genotype.nodes
    )


def _mutate_to_untried(
    parent: Genotype, trials: Sequence[Trial], max_cells: int, two_inputs: bool, rng: random.Random
) -> Genotype:
    """A mutation that was not tried yet. If no untried one is found by a single change, changes are added until one is."""
    tried = {network_key(trial.genotype, two_inputs) for trial in trials}
    genotype = parent
    for _ in range(50):
        genotype = mutate(parent, max_cells, rng)
        if network_key(genotype, two_inputs) not in tried:
            return genotype
    while network_key(genotype, two_inputs) in tried:
        genotype = mutate(genotype, max_cells, rng)
    return genotype


@dataclass(frozen=True)
class _Trainer:
    """Runs trials. All of them learn from the same texts in the same order."""

    task: StudentTask
    recipe: Recipe
    supernet: Supernet
    texts: SearchTexts

    def run(self, genotype: Genotype, name: str, scratch: Path) -> tuple[float, float]:
        """Train a student of the genotype; returns its loss and its accuracy on the held-out texts."""
        task, training = self.task, self.recipe.compress
        assert isinstance(self.recipe.student, CnnOptions), "only a cnn is searched"
        torch.manual_seed(task.seed)
        student = make_student(task, self.recipe.student, genotype, self.supernet)
        gamma, tau = gamma_and_tau(self.recipe.objective)
        texts, steps = self.texts, self.recipe.search.trial_steps

        def loss(batch: Batch, progress: float) -> Tensor:
            logits = student.logits_per_cell(**model_inputs(student, batch))
            return weighted(adabert_loss(logits, batch.teacher_probes, batch.labels, gamma, tau), batch.weights).mean()

        def evaluate(model: nn.Module) -> dict[str, float]:
            logits = predict_logits(cast(CnnStudent, model), texts.held_out)
            accuracy = float((logits.argmax(dim=1) == texts.held_out.labels).float().mean())
            error = float(F.cross_entropy(logits, texts.held_out.labels))
            return {"metric": accuracy, "held-out loss": error, "accuracy": accuracy}

        step = adamw(
            texts.batches(training.batch_size, task.seed, steps), student.parameters(), loss, training, constant=True
        )
        schedule = Schedule(1, 1, task.seed, keep_last=True, average=AVERAGE)
        metrics = fit(name, student, [step], evaluate, schedule, scratch).history[-1]
        return metrics["held-out loss"], metrics["accuracy"]


def _write(trials: Sequence[Trial], directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    entries = [asdict(trial) | {"genotype": trial.genotype.model_dump(mode="json")} for trial in trials]
    write_json(directory / TRIALS, {"trials": entries})
