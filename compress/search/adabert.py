"""AdaBERT's differentiable search: it trains a supernet with the teacher's probes and the cost of its operations (§3.3)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from compress import processes
from compress.data.batches import Batch, make_loader
from compress.data.files import write_json
from compress.distil.task import StudentTask
from compress.objectives.expertise import weighted
from compress.objectives.probes import adabert_loss
from compress.recipe import Recipe
from compress.recipe.sections import CnnOptions, NoObjective, ObjectiveOptions, ProbesObjective, SearchOptions
from compress.search.cost import costs_of, efficiency_loss
from compress.search.student import SUPERNET, make_supernet
from compress.search.supernet import Supernet
from compress.search.texts import search_texts
from compress.students.embeddings import project_embeddings
from compress.students.genotype import OPERATIONS
from compress.training.accelerator import make_accelerator
from compress.training.evaluation import EVALUATION_BATCH, predict
from compress.training.loop import Schedule, fit
from compress.training.optimizer import OptimizerStep, adamw

SEARCH = "search.json"


def search_architecture(task: StudentTask, recipe: Recipe, directory: Path, scratch: Path) -> None:
    """Search an architecture. Writes the supernet's weights, `supernet.pt`, and the result, `search.json`, to `directory`.

    `search.json` has the costs of the operations and the probabilities of operations and depths. The search always learns
    from the probes, also if the final training learns from something else. There is one exception: if the final training
    learns from the labels alone, so does the search.
    """
    options, student = recipe.search, recipe.student
    assert isinstance(student, CnnOptions), "only a cnn is searched"
    torch.manual_seed(task.seed)
    supernet = _initial_supernet(task, student)
    costs = processes.broadcast_result(lambda: costs_of(options, student.width, _median_length(task)))
    losses = _Losses(supernet, recipe, torch.tensor([costs[name] for name in OPERATIONS]), student.halvings)

    def evaluate(model: nn.Module) -> dict[str, float]:
        with torch.inference_mode():
            cost = float(losses.efficiency())
        return {"metric": _dev_accuracy(cast(Supernet, model), task), "L_E": cost}

    schedule = Schedule(options.epochs, options.epochs, task.seed, keep_last=True)
    fit("search", supernet, _steps(task, recipe, losses), evaluate, schedule, scratch)
    supernet.cpu()
    torch.save(supernet.state_dict(), directory / SUPERNET)
    write_json(directory / SEARCH, _result(supernet, options, costs))


def read_search(directory: Path) -> tuple[Tensor, Tensor, dict[str, float]]:
    """The result of a search: logits (E, O) of the operations, logits (K_max,) of the depths, and the operations' costs."""
    result = json.loads((directory / SEARCH).read_text(encoding="utf-8"))
    alpha, depth = (torch.tensor(result[name]).log() for name in ("probabilities", "depth_probabilities"))
    return alpha, depth, result["costs"]


def gamma_and_tau(objective: ObjectiveOptions) -> tuple[float, float]:
    """γ and τ of the probe loss in a search. An objective without them gets the defaults; with labels alone, γ is 0."""
    if isinstance(objective, ProbesObjective):
        return objective.gamma, objective.tau
    return (0.0, 1.0) if isinstance(objective, NoObjective) else (ProbesObjective().gamma, ProbesObjective().tau)


class _Losses:
    """The losses of the two optimisers: `for_weights` and `for_architecture`."""

    def __init__(self, supernet: Supernet, recipe: Recipe, costs: Tensor, halvings: int) -> None:
        self.supernet, self.options, self.costs, self.halvings = supernet, recipe.search, costs, halvings
        self.gamma, self.tau = gamma_and_tau(recipe.objective)

    def for_weights(self, batch: Batch, progress: float) -> Tensor:
        """The task loss of a sampled architecture."""
        return self._task_loss(batch, progress, dense=False)

    def for_architecture(self, batch: Batch, progress: float) -> Tensor:
        """The task loss plus β times the efficiency loss."""
        efficiency = self.efficiency()
        return self._task_loss(batch, progress, self.options.dense) + self.options.beta * efficiency

    def efficiency(self) -> Tensor:
        """L_E of the current architecture weights, in [0, 1]."""
        alpha, depth = self.supernet.alpha, self.supernet.depth
        return efficiency_loss(alpha, depth, self.costs.to(alpha.device), self.halvings)

    def _task_loss(self, batch: Batch, progress: float, dense: bool) -> Tensor:
        first, last = self.options.gumbel
        draw = self.supernet.draw(first * (last / first) ** progress)
        logits = self.supernet(*_inputs(batch), draw, dense=dense)
        losses = adabert_loss(logits, batch.teacher_probes, batch.labels, self.gamma, self.tau)
        return weighted(losses, batch.weights).mean()


def _initial_supernet(task: StudentTask, student: CnnOptions) -> Supernet:
    """An untrained supernet with the first word embeddings of a student of this width."""
    supernet = make_supernet(task, student, student.dropout, student.token_dropout)
    supernet.embeddings.table.weight.data.copy_(project_embeddings(task.embeddings, task.train, student.width))
    return supernet


def _median_length(task: StudentTask) -> int:
    """Median length of the labelled texts, in tokens."""
    return int(np.median([len(e) for e in task.train.encoded[: task.labelled]]))


def _steps(task: StudentTask, recipe: Recipe, losses: _Losses) -> list[OptimizerStep]:
    """The two optimisers: a step of the weights at each training step, a step of the architecture at every n-th."""
    options, training, supernet = recipe.search, recipe.compress, losses.supernet
    texts = search_texts(task)
    # As many steps as the task's own texts alone would take: a transfer set makes the search no longer.
    steps = -(-texts.own // training.batch_size)
    weight_batches = texts.batches(training.batch_size, task.seed, steps)
    architecture_batches = make_loader(texts.held_out, training.batch_size, shuffle=True, seed=task.seed + 1)
    architecture_optimizer = torch.optim.Adam(
        supernet.architecture_parameters(), lr=options.architecture_learning_rate, betas=(0.5, 0.999)
    )
    return [
        adamw(
            weight_batches,
            supernet.weight_parameters(),
            losses.for_weights,
            training,
            constant=True,
            tables=supernet.embedding_tables(),
        ),
        OptimizerStep(
            architecture_batches,
            architecture_optimizer,
            losses.for_architecture,
            constant=True,
            every=options.architecture_every,
        ),
    ]


def _result(supernet: Supernet, options: SearchOptions, costs: dict[str, float]) -> dict[str, Any]:
    """The content of `search.json`."""
    return {
        "operations": OPERATIONS,
        "cost": options.cost,
        "costs": costs,
        "probabilities": torch.softmax(supernet.alpha, dim=1).tolist(),
        "depth_probabilities": torch.softmax(supernet.depth, dim=0).tolist(),
        "architecture_steps": "all operations" if options.dense else "drawn operation only",
    }


def _inputs(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    return batch.input_ids, batch.attention_mask, batch.segments


def _dev_accuracy(supernet: Supernet, task: StudentTask) -> float:
    """Dev accuracy of the most probable architecture."""
    loader = make_loader(task.dev, EVALUATION_BATCH, shuffle=False)

    def last_logits(model: nn.Module, batch: Batch) -> Tensor:
        return model(*_inputs(batch), cast(Supernet, model).likeliest())[-1]

    logits = predict(supernet, loader, last_logits, make_accelerator())
    return float((logits.argmax(dim=1) == task.dev.labels).float().mean())
