"""The training of a student. It works for every student and every objective that fits it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from pathlib import Path

from torch import nn
from transformers import PreTrainedModel

from compress.data.batches import make_loader
from compress.distil.forward_recorder import ForwardRecorder
from compress.distil.learner import Learner, make_learner
from compress.distil.phases import Phase, make_phases, with_quantization_phase
from compress.distil.task import StudentTask
from compress.distil.transfer import TransferLoss
from compress.recipe.sections import CompressOptions, FeatureObjective, ObjectiveOptions, TwoStageObjective
from compress.training.accelerator import make_accelerator
from compress.training.evaluation import dev_metrics
from compress.training.loop import Schedule, fit
from compress.training.optimizer import Loss, adamw
from compress.training.quantization_aware import rounding

EVALUATIONS = 10  # of a training that is given in steps


def train_student(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    task: StudentTask,
    objective: ObjectiveOptions,
    training: CompressOptions,
    scratch: Path,
    transfer: TransferLoss | None = None,
) -> list[dict[str, float]]:
    """Train the student in place. It ends with the weights of its best epoch, on the CPU.

    :param teacher: runs beside the student if the objective is a `FeatureObjective`. Otherwise `task` has its outputs.
    :param transfer: a meta-teacher's transfer loss. Then `task.train` has `domains` too.
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
    transfer: TransferLoss | None = None,
) -> list[dict[str, float]]:
    """Run the phases of an objective in order, and the quantisation-aware one if there is one.

    :param train: runs one phase: `train(phase, learner, scratch)`.
    :returns: what `train` returns for the last phase.
    """
    learner = make_learner(objective, student, teacher.config, transfer)
    history: list[dict[str, float]] = []
    with ExitStack() as stack:
        recorders: list[ForwardRecorder | None] = [None, None]
        if isinstance(objective, FeatureObjective):
            teacher.to(make_accelerator().device).eval().requires_grad_(False)
            attention = isinstance(objective, TwoStageObjective)
            recorders = [stack.enter_context(ForwardRecorder(m, attention=attention)) for m in (teacher, student)]
        phases = make_phases(objective, training, learner, *recorders)
        phases = with_quantization_phase(phases, training.quantization_epochs)
        for number, phase in enumerate(phases):
            history = train(phase, learner, scratch / f"phase-{number}")
    student.cpu()
    return history


def mean_loss(phase: Phase) -> Loss:
    """The mean of the phase's losses over a batch, for an optimiser."""
    return lambda batch, progress: phase.loss(batch).mean()


def _student_of(model: nn.Module) -> PreTrainedModel:
    """The student inside a learner, or inside the moving average of a learner."""
    return model.student


def train_phase(
    phase: Phase, learner: Learner, task: StudentTask, training: CompressOptions, scratch: Path
) -> list[dict[str, float]]:
    """Train one phase on all texts of the task. Returns the dev metrics of each epoch."""
    device = make_accelerator().device

    def evaluate(model: nn.Module) -> dict[str, float]:
        if not phase.predicts:
            return {"metric": 0.0}  # the classification head is not trained yet
        return dev_metrics(_student_of(model).to(device), task.dev)

    length = None if phase.steps is None else -(-phase.steps // EVALUATIONS)
    loader = make_loader(
        task.train,
        training.batch_size,
        shuffle=True,
        seed=task.seed,
        transfer=task.transfer,
        share=task.share,
        length=length,
    )
    of_student = getattr(learner.student, "embedding_tables", list)  # a student of our own has it
    tables: list[nn.Embedding] = (
        [] if phase.quantization_aware else of_student()
    )  # rounded ones are not read as they are
    step = adamw(
        loader, learner.parameters(), mean_loss(phase), training, learning_rate=phase.learning_rate, tables=tables
    )
    # No moving average here: the student was never trained with the rounded values of averaged weights.
    average = training.average or None if phase.predicts and not phase.quantization_aware else None
    schedule = Schedule(
        phase.epochs or EVALUATIONS, training.patience, task.seed, keep_last=not phase.predicts, average=average
    )
    with rounding(learner.student) if phase.quantization_aware else nullcontext():
        return fit(phase.name, learner, [step], evaluate, schedule, scratch).history
