"""Architectures tried: each is trained on its own, briefly, and judged on texts that it has not seen.

What a differentiable search finds likely is what learns fast among operations that are hardly trained: shallow cells and
identities (Shu et al., ICLR 2020). Here its findings, and what one would build by hand, are only where an evolution starts
(Real et al., AAAI 2019): the best so far are varied, one edge or the depth at a time. Their weights are the supernet's
at first, so that a short training tells them apart.
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
from compress.data.batches import Batch, EncodedSplit, make_loader
from compress.data.files import write_json
from compress.distil.task import StudentTask
from compress.objectives.expertise import weighted
from compress.objectives.probes import adabert_loss
from compress.recipe import Recipe
from compress.recipe.sections import CnnOptions
from compress.search.adabert import distillation, read_search, split_rows
from compress.search.derive import ParetoFront, architecture_cost, cost_bound
from compress.search.student import make_student, read_supernet
from compress.search.supernet import Supernet
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
# At which costs the search's likeliest architecture is tried.
LIKELIEST_AT = (1.0, 0.3, 0.15, 0.07)
# What a parent's cost counts, in multiples of β, from one variation to the next: the tried shall be good at every cost,
# for a bound is set afterwards.
PRICES = (1.0, 0.0, 3.0, 0.3)
AVERAGE = 0.99  # decay of the weights' moving average, which is what is judged


@dataclass(frozen=True)
class Trial:
    """An architecture and how it did."""

    genotype: Genotype
    cost: float  # see `architecture_cost`
    loss: float  # cross-entropy of the labels of the texts held out
    accuracy: float  # on these

    def priced(self, price: float) -> float:
        """The loss with what the cost counts."""
        return self.loss + price * self.cost


def best_of(trials: Iterable[Trial], price: float) -> Trial | None:
    """The trial of least loss, its cost counted."""
    return min(trials, key=lambda trial: trial.priced(price), default=None)


def read_trials(directory: Path) -> list[Trial]:
    """What `run_trials` has written."""
    entries = json.loads((directory / TRIALS).read_text(encoding="utf-8"))["trials"]
    return [Trial(**entry | {"genotype": Genotype.model_validate(entry["genotype"])}) for entry in entries]


def run_trials(task: StudentTask, recipe: Recipe, search: Path, directory: Path, scratch: Path) -> None:
    """Try `search.trials` architectures; writes `trials.json` to `directory`.

    They train on what the search's weights were trained on and are judged on what its architecture was, never on dev. What
    was tried is kept in `scratch`, from which a killed run goes on.
    """
    options, student = recipe.search, recipe.student
    assert isinstance(student, CnnOptions), "only a cnn is searched"
    alpha, depth, costs = read_search(search)
    bench = _Bench(task, recipe, read_supernet(task, student, search))
    first = first_candidates(alpha, depth, costs)
    two_inputs = task.pair and student.pair_inputs != "together"
    trials = read_trials(scratch) if (scratch / TRIALS).exists() else []
    while len(trials) < options.trials:
        number = len(trials)
        if number < len(first):
            genotype = first[number]
        else:
            parent = best_of(trials, options.beta * PRICES[number % len(PRICES)])
            assert parent is not None, "the first were tried"
            rng = random.Random(f"{task.seed}/{number}")
            genotype = _new_variation(parent.genotype, trials, student.max_cells, two_inputs, rng)
        cost = architecture_cost(genotype, costs, student.max_cells)
        name = f"trial {number + 1} of {options.trials}, {cost:.0%} of the costliest"
        training = scratch / f"trial-{number}"
        loss, accuracy = bench.judge(genotype, name, training)
        trials.append(Trial(genotype, round(cost, 4), round(loss, 4), round(accuracy, 4)))
        processes.barrier()  # the others may still read their weights there
        if processes.is_first():
            _write(trials, scratch)
            shutil.rmtree(training)
    if processes.is_first():
        _write(trials, directory)


def first_candidates(alpha: Tensor, depth: Tensor, costs: dict[str, float]) -> list[Genotype]:
    """Where the evolution starts: the smallest student, hand-made ones, and what the search finds likely at several costs.

    :param alpha: (E, O) logits.
    :param depth: (K_max,) logits.
    """
    candidates = ParetoFront(alpha, depth, [torch.tensor([costs[name] for name in OPERATIONS])])
    likely = [candidates.likeliest(cost_bound(bound, len(depth))) for bound in LIKELIEST_AT]
    by_hand = [residual_genotype(cells) for cells in (1, len(depth))]
    return list(dict.fromkeys([identity_genotype(), *by_hand, *(genotype for genotype in likely if genotype)]))


def vary(genotype: Genotype, max_cells: int, rng: random.Random) -> Genotype:
    """Another operation on an edge, another source of it, or a cell more or less."""
    change = rng.choice(("operation", "operation", "source", "depth"))
    if change == "depth":
        cells = genotype.cells + rng.choice((-1, 1))
        return genotype.model_copy(update={"cells": min(max(cells, 1), max_cells)})
    nodes = [list(node) for node in genotype.nodes]
    node = rng.randrange(NODES)
    place = rng.randrange(len(nodes[node]))
    edge = nodes[node][place]
    nodes[node][place] = (
        Edge(source=edge.source, operation=rng.choice(OPERATIONS[1:]))  # other than zero
        if change == "operation"
        else Edge(source=rng.choice(node_sources(node)), operation=edge.operation)
    )
    return genotype.model_copy(update={"nodes": tuple(tuple(edges) for edges in nodes)})


def same_network(genotype: Genotype, two_inputs: bool) -> tuple[Any, ...]:
    """Equal for two genotypes that compute the same: the order of a node's edges says nothing.

    Nor does it say anything which input a single cell reads, unless the two differ, as those of a pair may.
    """
    one_input = genotype.cells == 1 and not two_inputs
    return genotype.cells, *(
        tuple(sorted((max(edge.source, 1) if one_input else edge.source, edge.operation) for edge in node))
        for node in genotype.nodes
    )


def _new_variation(
    parent: Genotype, trials: Sequence[Trial], max_cells: int, two_inputs: bool, rng: random.Random
) -> Genotype:
    """A variation that was not tried yet; of several changes at once where all single ones were."""
    tried = {same_network(trial.genotype, two_inputs) for trial in trials}
    genotype = parent
    for _ in range(50):
        genotype = vary(parent, max_cells, rng)
        if same_network(genotype, two_inputs) not in tried:
            return genotype
    while same_network(genotype, two_inputs) in tried:
        genotype = vary(genotype, max_cells, rng)
    return genotype


@dataclass(frozen=True)
class _Bench:
    """Where architectures are tried: all of them on the same texts, in the same order."""

    task: StudentTask
    recipe: Recipe
    supernet: Supernet

    def judge(self, genotype: Genotype, name: str, scratch: Path) -> tuple[float, float]:
        """Loss and accuracy on the texts held out, after a training of its own."""
        task, training = self.task, self.recipe.compress
        assert isinstance(self.recipe.student, CnnOptions), "only a cnn is searched"
        torch.manual_seed(task.seed)
        student = make_student(task, self.recipe.student, genotype, self.supernet)
        gamma, tau = distillation(self.recipe.objective)
        learned, held_out = self._texts()

        def loss(batch: Batch, progress: float) -> Tensor:
            logits = student.logits_per_cell(**model_inputs(student, batch))
            return weighted(adabert_loss(logits, batch.teacher_probes, batch.labels, gamma, tau), batch.weights).mean()

        def evaluate(model: nn.Module) -> dict[str, float]:
            logits = predict_logits(cast(CnnStudent, model), held_out)
            accuracy = float((logits.argmax(dim=1) == held_out.labels).float().mean())
            error = float(F.cross_entropy(logits, held_out.labels))
            return {"metric": accuracy, "held-out loss": error, "accuracy": accuracy}

        loader = make_loader(learned, training.batch_size, shuffle=True, seed=task.seed)
        step = adamw(loader, student.parameters(), loss, training, constant=True)
        schedule = Schedule(1, 1, task.seed, keep_last=True, average=AVERAGE)
        metrics = fit(name, student, [step], evaluate, schedule, scratch).history[-1]
        return metrics["held-out loss"], metrics["accuracy"]

    def _texts(self) -> tuple[EncodedSplit, EncodedSplit]:
        """As many texts as a trial has steps for, again from the first where there are fewer; and those held out."""
        learned, held_out = split_rows(self.task.groups, self.task.seed)
        count = self.recipe.search.trial_steps * self.recipe.compress.batch_size
        rows = [learned[i % len(learned)] for i in range(count)]
        return self.task.train.subset(rows), self.task.train.subset(held_out)


def _write(trials: Sequence[Trial], directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    entries = [asdict(trial) | {"genotype": trial.genotype.model_dump(mode="json")} for trial in trials]
    write_json(directory / TRIALS, {"trials": entries})
