"""AdaBERT's procedure: search an architecture against the teacher's probes, derive it, train what was derived (§3.3)."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from compress.batches import Batch, EncodedSplit, make_loader
from compress.console import console
from compress.objectives.logits import distillation_loss
from compress.recipe import AdaBertOptions
from compress.search.cost import efficiency_loss, operation_costs
from compress.search.derive import derive, inherit, to_dot
from compress.search.space import OPERATIONS, Genotype
from compress.search.supernet import Supernet
from compress.stages import write_json
from compress.students import CnnStudent, CnnStudentConfig
from compress.train import Schedule, Turn, fit, make_accelerator, predict

ARCHITECTURE_SHARE = 0.2  # of the training texts; architecture steps never see a text that weight steps learn


@dataclass(frozen=True)
class StudentTask:
    """All that a student learns from. `train.targets["probes"]` holds the probes' logits (N, J, C)."""

    train: EncodedSplit  # labelled texts first, augmented ones behind them
    labelled: int  # how many are labelled
    dev: EncodedSplit
    labels: list[str]
    pair: bool
    pad_token_id: int
    embeddings: Tensor  # the teacher's word embeddings (V, d)
    options: AdaBertOptions
    seed: int


def search_architecture(task: StudentTask, directory: Path, scratch: Path) -> None:
    """Search; writes `genotype.json` (with the weights behind it), `cell.dot` and `supernet.pt` to `directory`."""
    options = task.options
    torch.manual_seed(task.seed)
    supernet = Supernet(
        len(task.embeddings),
        options.width,
        options.max_cells,
        len(task.labels),
        task.pair,
        options.dropout,
        options.token_dropout,
    )
    supernet.embeddings.table.weight.data.copy_(project_embeddings(task.embeddings, task.train, options.width))
    length = int(np.median([len(e) for e in task.train.encoded[: task.labelled]]))
    costs = operation_costs(options.width, length)
    cost_vector = torch.tensor([costs[name] for name in OPERATIONS])
    accelerator = make_accelerator()
    rows = list(range(task.labelled))  # augmented texts come into the final training only: searching is the dear part
    random.Random(task.seed).shuffle(rows)
    cut = max(1, round(len(rows) * ARCHITECTURE_SHARE))

    def task_loss(batch: Batch, progress: float, dense: bool) -> Tensor:
        first, last = options.gumbel
        draw = supernet.draw(first * (last / first) ** progress)
        logits = supernet(*_inputs(batch), draw, dense=dense)
        return distillation_loss(logits, batch["probes"], batch["labels"], options.gamma, options.tau)

    def weight_loss(batch: Batch, progress: float) -> Tensor:
        return task_loss(batch, progress, dense=False)

    def architecture_loss(batch: Batch, progress: float) -> Tensor:
        efficiency = efficiency_loss(supernet.alpha, supernet.depth, cost_vector.to(supernet.alpha.device))
        return task_loss(batch, progress, options.dense) + options.beta * efficiency

    def evaluate(model: nn.Module) -> dict[str, float]:
        with torch.inference_mode():
            cost = float(efficiency_loss(supernet.alpha, supernet.depth, cost_vector.to(supernet.alpha.device)))
        return {"metric": _accuracy(model, task, lambda m, b: m(*_inputs(b), m.likeliest())[-1]), "L_E": cost}

    turns = [
        Turn(
            make_loader(
                task.train.subset(rows[cut:]), options.batch_size, task.pad_token_id, shuffle=True, seed=task.seed
            ),
            torch.optim.AdamW(
                supernet.weight_parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
            ),
            weight_loss,
            constant=True,
        ),
        Turn(
            make_loader(
                task.train.subset(rows[:cut]), options.batch_size, task.pad_token_id, shuffle=True, seed=task.seed + 1
            ),
            torch.optim.Adam(
                supernet.architecture_parameters(), lr=options.architecture_learning_rate, betas=(0.5, 0.999)
            ),
            architecture_loss,
            constant=True,
            every=options.architecture_every,
        ),
    ]
    schedule = Schedule(options.search_epochs, options.search_epochs, task.seed, keep_last=True)
    fit("search", supernet, turns, evaluate, schedule, scratch, accelerator)
    supernet.cpu()
    genotype = derive(supernet.alpha, supernet.depth)
    console.print(
        f"  derived: {genotype.cells} cells; " + "; ".join(_describe(node) for node in genotype.model_dump()["nodes"])
    )
    torch.save(supernet.state_dict(), directory / "supernet.pt")
    (directory / "cell.dot").write_text(to_dot(genotype))
    report = {
        "genotype": genotype.model_dump(mode="json"),
        "operations": OPERATIONS,
        "costs": costs,
        "probabilities": torch.softmax(supernet.alpha, dim=1).tolist(),
        "depth_probabilities": torch.softmax(supernet.depth, dim=0).tolist(),
        "architecture_steps": "all operations" if options.dense else "drawn operation only",
    }
    write_json(directory / "genotype.json", report)


def train_student(task: StudentTask, search: Path, directory: Path, scratch: Path) -> list[dict[str, float]]:
    """Train the derived network from the searched weights with the distillation loss alone; writes its checkpoint.

    :returns: the dev metrics of each epoch.
    """
    options = task.options
    genotype = Genotype.model_validate(json.loads((search / "genotype.json").read_text())["genotype"])
    torch.manual_seed(task.seed)
    names = dict(enumerate(task.labels))
    config = CnnStudentConfig(
        vocab_size=len(task.embeddings),
        width=options.width,
        genotype=genotype.model_dump(mode="json"),
        pair=task.pair,
        dropout=options.dropout,
        token_dropout=options.token_dropout,
        pad_token_id=task.pad_token_id,
        id2label=names,
        label2id={name: i for i, name in names.items()},
    )
    student = CnnStudent(config)
    inherit(student, _load_supernet(task, search))
    accelerator = make_accelerator()

    def loss(batch: Batch, progress: float) -> Tensor:
        logits = student.logits_per_cell(*_inputs(batch))
        return distillation_loss(logits, batch["probes"], batch["labels"], options.gamma, options.tau)

    def evaluate(model: nn.Module) -> dict[str, float]:
        accuracy = _accuracy(model, task, student_logits)
        return {"metric": accuracy, "dev accuracy": accuracy}

    turn = Turn(
        make_loader(task.train, options.batch_size, task.pad_token_id, shuffle=True, seed=task.seed),
        torch.optim.AdamW(student.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay),
        loss,
        warmup=0.1,
    )
    schedule = Schedule(options.epochs, options.patience, task.seed, average=options.average)
    state = fit("student", student, [turn], evaluate, schedule, scratch, accelerator)
    student.cpu().save_pretrained(directory)
    return state.history


def project_embeddings(table: Tensor, train: EncodedSplit, width: int) -> Tensor:
    """The teacher's word embeddings (V, d) on their `width` principal components, weighted by how often a token occurs.

    The projection is folded in from the start: the student stores and trains V × width.
    """
    counts = torch.ones(len(table), dtype=torch.float64)  # a token that training never shows still has a place
    ids = torch.from_numpy(np.concatenate([e.input_ids for e in train.encoded]))
    counts += torch.bincount(ids, minlength=len(table))
    share = (counts / counts.sum())[:, None]
    centred = table.double() - (share * table.double()).sum(dim=0)
    _, vectors = torch.linalg.eigh((centred * share).T @ centred)
    projected = centred @ vectors[:, -width:].flip(1)
    if projected.shape[1] < width:  # a teacher narrower than the student
        projected = torch.nn.functional.pad(projected, (0, width - projected.shape[1]))
    return (projected / projected.std() * 0.5).float()


def student_logits(model: nn.Module, batch: Batch) -> Tensor:
    """Logits (B, C) of a student."""
    input_ids, mask, segments = _inputs(batch)
    return model(input_ids=input_ids, attention_mask=mask, token_type_ids=segments).logits


def _inputs(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    return batch["input_ids"], batch["attention_mask"], batch["segments"]


def _accuracy(model: nn.Module, task: StudentTask, forward: object) -> float:
    loader = make_loader(task.dev, 128, task.pad_token_id, shuffle=False)
    logits = predict(model, loader, forward, make_accelerator())  # type: ignore[arg-type]
    return float((logits.argmax(dim=1) == task.dev.labels).float().mean())


def _load_supernet(task: StudentTask, search: Path) -> Supernet:
    options = task.options
    supernet = Supernet(len(task.embeddings), options.width, options.max_cells, len(task.labels), task.pair, 0.0, 0.0)
    supernet.load_state_dict(torch.load(search / "supernet.pt", weights_only=True))
    return supernet


def _describe(node: list[dict[str, object]]) -> str:
    return " + ".join(f"{edge['operation']}({edge['source']})" for edge in node)
