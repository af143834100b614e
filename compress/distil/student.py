"""The student's training: any student, by any objective that applies to it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from pathlib import Path

from torch import nn
from transformers import PreTrainedModel

from compress.data.batches import make_loader
from compress.distil.hidden_states import Observer
from compress.distil.plan import Learner, Phase, and_rounded, looks_inside, make_learner, plan
from compress.distil.task import StudentTask
from compress.distil.transfer import Transfer
from compress.recipe.sections import CompressOptions, ObjectiveOptions
from compress.training.accelerator import make_accelerator
from compress.training.evaluation import dev_metrics
from compress.training.loop import Schedule, fit
from compress.training.optimizer import Loss, adamw
from compress.training.quantization_aware import rounding


def train_student(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    task: StudentTask,
    objective: ObjectiveOptions,
    training: CompressOptions,
    scratch: Path,
    transfer: Transfer | None = None,
) -> list[dict[str, float]]:
    """Train the student in place, leaving it with the weights of its best epoch, on the CPU.

    :param teacher: runs beside the student where the objective compares inner states; otherwise `task` has its outputs.
    :param transfer: a meta-teacher's transfer loss; then `task` has the examples' `domain` too.
    :returns: the dev metrics of each epoch of the last phase.
    """
    return train_phases(
        student,
        teacher,
        objective,
        training,
        scratch,
        lambda phase, learner, workspace: train_phase(phase, learner, task, training, workspace),
        transfer,
    )


def train_phases(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    objective: ObjectiveOptions,
    training: CompressOptions,
    scratch: Path,
    train: Callable[[Phase, Learner, Path], list[dict[str, float]]],
    transfer: Transfer | None = None,
) -> list[dict[str, float]]:
    """Go through the phases of an objective, and the rounded one if any, with `train(phase, learner, scratch)`; returns what the last one returns."""
    learner = make_learner(objective, student, teacher.config, transfer)
    history: list[dict[str, float]] = []
    with ExitStack() as stack:
        observers: list[Observer | None] = [None, None]
        if looks_inside(objective):
            teacher.to(make_accelerator().device).eval().requires_grad_(False)
            attention = objective.method in ("tinybert", "minilm")
            observers = [stack.enter_context(Observer(m, attention=attention)) for m in (teacher, student)]
        phases = and_rounded(plan(objective, training, learner, *observers), training.quantization_epochs)
        for number, phase in enumerate(phases):
            history = train(phase, learner, scratch / f"phase-{number}")
    student.cpu()
    return history


def mean_loss(phase: Phase) -> Loss:
    """The mean over a batch of the phase's losses, for an optimiser."""
    return lambda batch, progress: phase.loss(batch).mean()


def _student_of(model: nn.Module) -> PreTrainedModel:
    """The student inside the learner, or inside the moving average of it."""
    return model.student


def train_phase(
    phase: Phase, learner: Learner, task: StudentTask, training: CompressOptions, scratch: Path
) -> list[dict[str, float]]:
    """One phase over all texts of the task; returns the dev metrics of each epoch."""
    device = make_accelerator().device

    def evaluate(model: nn.Module) -> dict[str, float]:
        if not phase.predicts:
            return {"metric": 0.0}  # its head has not learned anything yet
        return dev_metrics(_student_of(model).to(device), task.dev)

    loader = make_loader(task.train, training.batch_size, shuffle=True, seed=task.seed)
    step = adamw(loader, learner.parameters(), mean_loss(phase), training, learning_rate=phase.learning_rate)
    # The weights of a moving average were never the rounded ones.
    average = training.average or None if phase.predicts and not phase.rounded else None
    schedule = Schedule(phase.epochs, training.patience, task.seed, keep_last=not phase.predicts, average=average)
    with rounding(learner.student) if phase.rounded else nullcontext():
        return fit(phase.name, learner, [step], evaluate, schedule, scratch).history
