"""AdaBERT's search: an architecture against the teacher's probes and the measured cost (§3.3)."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compress import ranks
from compress.batches import Batch, make_loader
from compress.classify import EVALUATION_BATCH
from compress.objectives.expertise import weighted
from compress.objectives.probes import adabert_loss
from compress.options import CnnOptions, NoObjective, ObjectiveOptions, ProbesObjective
from compress.recipe import Recipe
from compress.search.cost import costs_of, efficiency_loss
from compress.search.space import OPERATIONS
from compress.search.supernet import Supernet
from compress.stages import write_json
from compress.task import StudentTask, project_embeddings
from compress.train import Schedule, Turn, fit, make_accelerator, predict

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
    costs = ranks.from_first(lambda: costs_of(options, student.width, length))
    cost_vector = torch.tensor([costs[name] for name in OPERATIONS])
    gamma, tau = _distillation(recipe.objective)
    accelerator = make_accelerator()
    rows = list(range(task.labelled))  # augmented texts come into the final training only: searching is the dear part
    random.Random(task.seed).shuffle(rows)
    cut = max(1, round(len(rows) * ARCHITECTURE_SHARE))

    def task_loss(batch: Batch, progress: float, dense: bool) -> Tensor:
        first, last = options.gumbel
        draw = supernet.draw(first * (last / first) ** progress)
        logits = supernet(*_inputs(batch), draw, dense=dense)
        return weighted(adabert_loss(logits, batch["probes"], batch["labels"], gamma, tau), batch).mean()

    def weight_loss(batch: Batch, progress: float) -> Tensor:
        return task_loss(batch, progress, dense=False)

    def architecture_loss(batch: Batch, progress: float) -> Tensor:
        efficiency = efficiency_loss(supernet.alpha, supernet.depth, cost_vector.to(supernet.alpha.device))
        return task_loss(batch, progress, options.dense) + options.beta * efficiency

    def evaluate(model: nn.Module) -> dict[str, float]:
        with torch.inference_mode():
            cost = float(efficiency_loss(supernet.alpha, supernet.depth, cost_vector.to(supernet.alpha.device)))
        return {"metric": _dev_accuracy(model, task), "L_E": cost}

    turns = [
        Turn(
            make_loader(
                task.train.subset(rows[cut:]), training.batch_size, task.pad_token_id, shuffle=True, seed=task.seed
            ),
            torch.optim.AdamW(
                supernet.weight_parameters(),
                lr=training.learning_rate,
                weight_decay=training.weight_decay,
                fused=True,
            ),
            weight_loss,
            constant=True,
        ),
        Turn(
            make_loader(
                task.train.subset(rows[:cut]), training.batch_size, task.pad_token_id, shuffle=True, seed=task.seed + 1
            ),
            torch.optim.Adam(
                supernet.architecture_parameters(), lr=options.architecture_learning_rate, betas=(0.5, 0.999)
            ),
            architecture_loss,
            constant=True,
            every=options.architecture_every,
        ),
    ]
    schedule = Schedule(options.epochs, options.epochs, task.seed, keep_last=True)
    fit("search", supernet, turns, evaluate, schedule, scratch, accelerator)
    supernet.cpu()
    torch.save(supernet.state_dict(), directory / "supernet.pt")
    report = {
        "operations": OPERATIONS,
        "cost": options.cost,
        "costs": costs,
        "probabilities": torch.softmax(supernet.alpha, dim=1).tolist(),
        "depth_probabilities": torch.softmax(supernet.depth, dim=0).tolist(),
        "architecture_steps": "all operations" if options.dense else "drawn operation only",
    }
    write_json(directory / SEARCH, report)


def make_supernet(task: StudentTask, options: CnnOptions, dropout: float, token_dropout: float) -> Supernet:
    """The supernet of a task, untrained."""
    vocabulary, classes = len(task.embeddings), len(task.labels)
    return Supernet(
        vocabulary, options.width, options.max_cells, classes, task.pair, options.two_streams, dropout, token_dropout
    )


def _distillation(objective: ObjectiveOptions) -> tuple[float, float]:
    """γ and τ of the search."""
    if isinstance(objective, ProbesObjective):
        return objective.gamma, objective.tau
    return (0.0, 1.0) if isinstance(objective, NoObjective) else (ProbesObjective().gamma, ProbesObjective().tau)


def _inputs(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    return batch["input_ids"], batch["attention_mask"], batch["segments"]


def _dev_accuracy(supernet: Any, task: StudentTask) -> float:
    """Accuracy of the likeliest architecture."""
    loader = make_loader(task.dev, EVALUATION_BATCH, task.pad_token_id, shuffle=False)

    def last_logits(model: Any, batch: Batch) -> Tensor:
        return model(*_inputs(batch), model.likeliest())[-1]

    logits = predict(supernet, loader, last_logits, make_accelerator())
    return float((logits.argmax(dim=1) == task.dev.labels).float().mean())
