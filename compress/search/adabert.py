"""AdaBERT's search: an architecture against the teacher's probes and the measured cost (§3.3)."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
from compress.recipe.sections import CnnOptions, NoObjective, ObjectiveOptions, ProbesObjective
from compress.search.cost import costs_of, efficiency_loss
from compress.search.student import SUPERNET, make_supernet
from compress.students.embeddings import project_embeddings
from compress.students.genotype import OPERATIONS
from compress.training.accelerator import make_accelerator
from compress.training.evaluation import EVALUATION_BATCH, predict
from compress.training.loop import Schedule, fit
from compress.training.optimizer import OptimizerStep, adamw

SEARCH = "search.json"
ARCHITECTURE_SHARE = 0.2  # of the training texts; architecture steps never see a text that weight steps learn


def search_architecture(task: StudentTask, recipe: Recipe, directory: Path, scratch: Path) -> None:
    """Search; writes `supernet.pt` and `search.json`, the costs and what was found likely, to `directory`.

    The search learns from the probes whatever the final training learns from, unless that is the labels alone.
    """
    options, training, student = recipe.search, recipe.compress, recipe.student
    assert isinstance(student, CnnOptions), "only a cnn is searched"
    torch.manual_seed(task.seed)
    supernet = make_supernet(task, student, student.dropout, student.token_dropout)
    supernet.embeddings.table.weight.data.copy_(project_embeddings(task.embeddings, task.train, student.width))
    length = int(np.median([len(e) for e in task.train.encoded[: task.labelled]]))
    costs = processes.broadcast_result(lambda: costs_of(options, student.width, length))
    cost_vector = torch.tensor([costs[name] for name in OPERATIONS])
    gamma, tau = distillation(recipe.objective)
    learned, held_out = split_rows(task.groups, task.seed)

    def task_loss(batch: Batch, progress: float, dense: bool) -> Tensor:
        first, last = options.gumbel
        draw = supernet.draw(first * (last / first) ** progress)
        logits = supernet(*_inputs(batch), draw, dense=dense)
        return weighted(adabert_loss(logits, batch.teacher_probes, batch.labels, gamma, tau), batch.weights).mean()

    def weight_loss(batch: Batch, progress: float) -> Tensor:
        return task_loss(batch, progress, dense=False)

    def architecture_loss(batch: Batch, progress: float) -> Tensor:
        efficiency = efficiency_loss(supernet.alpha, supernet.depth, cost_vector.to(supernet.alpha.device))
        return task_loss(batch, progress, options.dense) + options.beta * efficiency

    def evaluate(model: nn.Module) -> dict[str, float]:
        with torch.inference_mode():
            cost = float(efficiency_loss(supernet.alpha, supernet.depth, cost_vector.to(supernet.alpha.device)))
        return {"metric": _dev_accuracy(model, task), "L_E": cost}

    batches, size = task.train, training.batch_size
    weight_batches = make_loader(batches.subset(learned), size, shuffle=True, seed=task.seed)
    architecture_batches = make_loader(batches.subset(held_out), size, shuffle=True, seed=task.seed + 1)
    architecture_optimizer = torch.optim.Adam(
        supernet.architecture_parameters(), lr=options.architecture_learning_rate, betas=(0.5, 0.999)
    )
    steps = [
        adamw(weight_batches, supernet.weight_parameters(), weight_loss, training, constant=True),
        OptimizerStep(
            architecture_batches,
            architecture_optimizer,
            architecture_loss,
            constant=True,
            every=options.architecture_every,
        ),
    ]
    schedule = Schedule(options.epochs, options.epochs, task.seed, keep_last=True)
    fit("search", supernet, steps, evaluate, schedule, scratch)
    supernet.cpu()
    torch.save(supernet.state_dict(), directory / SUPERNET)
    report = {
        "operations": OPERATIONS,
        "cost": options.cost,
        "costs": costs,
        "probabilities": torch.softmax(supernet.alpha, dim=1).tolist(),
        "depth_probabilities": torch.softmax(supernet.depth, dim=0).tolist(),
        "architecture_steps": "all operations" if options.dense else "drawn operation only",
    }
    write_json(directory / SEARCH, report)


def read_search(directory: Path) -> tuple[Tensor, Tensor, dict[str, float]]:
    """What a search found: logits (E, O) of the operations, logits (K_max,) of the depths, and the operations' costs."""
    found = json.loads((directory / SEARCH).read_text(encoding="utf-8"))
    alpha, depth = (torch.tensor(found[name]).log() for name in ("probabilities", "depth_probabilities"))
    return alpha, depth, found["costs"]


def split_rows(groups: Sequence[int], seed: int) -> tuple[list[int], list[int]]:
    """Of the labelled texts, those that weights are trained on and those that architectures are judged on, each in random order.

    Texts of a group stay together: an architecture that remembers the phrases of a sentence would else look good on the others.
    A group that is larger than what is held out cannot be spared, and is dealt out text by text.
    Augmented texts come into the final training only: searching is the dear part.

    :param groups: the group of each text (N,).
    """
    rng = random.Random(seed)
    wanted = max(1, round(len(groups) * ARCHITECTURE_SHARE))
    members: dict[int, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    units: list[list[int]] = []
    for rows in members.values():
        units += [rows] if len(rows) <= wanted else [[row] for row in rows]
    rng.shuffle(units)
    held_out: list[int] = []
    learned: list[int] = []
    for unit in units:
        (held_out if len(held_out) + len(unit) <= wanted else learned).extend(unit)
    rng.shuffle(learned)
    rng.shuffle(held_out)
    return learned, held_out


def distillation(objective: ObjectiveOptions) -> tuple[float, float]:
    """γ and τ of the probe loss that a search learns from, whatever the final training learns from."""
    if isinstance(objective, ProbesObjective):
        return objective.gamma, objective.tau
    return (0.0, 1.0) if isinstance(objective, NoObjective) else (ProbesObjective().gamma, ProbesObjective().tau)


def _inputs(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    return batch.input_ids, batch.attention_mask, batch.segments


def _dev_accuracy(supernet: Any, task: StudentTask) -> float:
    """Accuracy of the likeliest architecture."""
    loader = make_loader(task.dev, EVALUATION_BATCH, shuffle=False)

    def last_logits(model: Any, batch: Batch) -> Tensor:
        return model(*_inputs(batch), model.likeliest())[-1]

    logits = predict(supernet, loader, last_logits, make_accelerator())
    return float((logits.argmax(dim=1) == task.dev.labels).float().mean())
