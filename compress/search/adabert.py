"""AdaBERT's search: an architecture against the teacher's probes and the measured cost, and what is derived of it (§3.3)."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compress.batches import Batch, make_loader
from compress.classify import EVALUATION_BATCH
from compress.console import console
from compress.errors import UserError
from compress.objectives.expertise import weighted
from compress.objectives.probes import adabert_loss
from compress.options import CnnOptions, NoObjective, ObjectiveOptions, ProbesObjective
from compress.recipe import Recipe
from compress.search.cost import computed_costs, efficiency_loss, operation_costs
from compress.search.derive import architecture_cost, derive, inherit
from compress.search.draw import draw_cell
from compress.search.space import OPERATIONS, Genotype, random_genotype, residual_genotype
from compress.search.supernet import Supernet
from compress.stages import write_json
from compress.students import CnnStudent, CnnStudentConfig
from compress.task import StudentTask, label_names, project_embeddings
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
    supernet = _supernet(task, student, student.dropout, student.token_dropout)
    supernet.embeddings.table.weight.data.copy_(project_embeddings(task.embeddings, task.train, student.width))
    length = int(np.median([len(e) for e in task.train.encoded[: task.labelled]]))
    costs = operation_costs(student.width, length) if options.cost == "measured" else computed_costs(student.width)
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


def choose_architecture(recipe: Recipe, search: Path, directory: Path) -> None:
    """Derive the architecture from a search, or take the random, hand-made or given one; writes `genotype.json` and a drawing.

    :param search: result of `search_architecture`, where the recipe searches.
    :raises UserError: the file given is no genotype.
    """
    student = recipe.student
    assert isinstance(student, CnnOptions), "only a cnn has an architecture"
    report: dict[str, Any] = {"architecture": student.architecture}
    if student.architecture == "searched":
        found = json.loads((search / SEARCH).read_text(encoding="utf-8"))
        costs, bound = found["costs"], recipe.search.max_cost
        alpha, depth = (torch.tensor(found[name]).log() for name in ("probabilities", "depth_probabilities"))
        genotype = derive(alpha, depth, torch.tensor([costs[name] for name in OPERATIONS]), bound)
        report |= {"cost": round(architecture_cost(genotype, costs, student.max_cells), 4), "max_cost": bound}
    elif student.architecture == "random":
        genotype = random_genotype(student.max_cells, recipe.seed)
    elif student.architecture == "residual":
        genotype = residual_genotype(student.max_cells)
    else:
        genotype = read_genotype(Path(student.architecture))
    cells = "1 cell" if genotype.cells == 1 else f"{genotype.cells} cells"
    nodes = (" + ".join(f"{edge.operation}({edge.source})" for edge in node) for node in genotype.nodes)
    share = f", {report['cost']:.0%} of the costliest" if "cost" in report else ""
    console.print(f"  {student.architecture}: {cells}; {'; '.join(nodes)}{share}")
    draw_cell(genotype, directory, f"{recipe.name}: {cells} like this one")
    write_json(directory / "genotype.json", {"genotype": genotype.model_dump(mode="json"), **report})


def read_genotype(file: Path) -> Genotype:
    """The genotype in a `genotype.json`.

    :raises UserError: there is none.
    """
    try:
        return Genotype.model_validate(json.loads(file.read_text(encoding="utf-8"))["genotype"])
    except FileNotFoundError:
        raise UserError(f"student.architecture: {file}: no such file") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"student.architecture: {file}: not a genotype.json of a search ({reason})") from None


def derived_student(task: StudentTask, options: CnnOptions, architecture: Path, search: Path) -> CnnStudent:
    """The derived network with the searched weights; one that was not searched starts from the teacher's embeddings."""
    genotype = read_genotype(architecture / "genotype.json")
    config = CnnStudentConfig(
        vocab_size=len(task.embeddings),
        width=options.width,
        genotype=genotype.model_dump(mode="json"),
        pair=task.pair,
        dropout=options.dropout,
        token_dropout=options.token_dropout,
        pad_token_id=task.pad_token_id,
        **label_names(task.labels),
    )
    student = CnnStudent(config)
    if options.architecture != "searched":
        table = project_embeddings(task.embeddings, task.train, options.width)
        student.embeddings.table.weight.data.copy_(table)
        return student
    supernet = _supernet(task, options, 0.0, 0.0)
    supernet.load_state_dict(torch.load(search / "supernet.pt", weights_only=True))
    inherit(student, supernet)
    return student


def _supernet(task: StudentTask, options: CnnOptions, dropout: float, token_dropout: float) -> Supernet:
    vocabulary, classes = len(task.embeddings), len(task.labels)
    return Supernet(vocabulary, options.width, options.max_cells, classes, task.pair, dropout, token_dropout)


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
