"""The training loop `fit`. The teacher, the search and the student all use it.

It shows the loss, the dev metrics and the time left. It stops early. It writes checkpoints. A killed run continues from its
last checkpoint and ends with the same weights as without the kill. accelerate does device placement and mixed precision.

Several processes share each batch. Each gradient is weighted by the share of its process, so `batch_size` and the number
of steps mean the same for any number of processes. BatchNorm normalises with the statistics of one process's share. Its
running statistics are averaged over the processes. A checkpoint has the random numbers of all processes, so as many
processes carry on to the same weights; another number of processes can carry on too.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

from compress import processes
from compress.console import machine_fault
from compress.data.batches import Batch
from compress.runtime.errors import UserError
from compress.runtime.files import recover_directory, replace_directory
from compress.training.accelerator import make_accelerator
from compress.training.evaluation import share_of
from compress.training.optimizer import OptimizerStep, averaged_model, make_scheduler
from compress.training.progress import TrainingProgress
from compress.training.random_state import random_state, restore_random_state
from compress.training.rowwise import RowwiseTables, clip_sparse_gradients

CHECKPOINT_SECONDS = 60.0


class Stateful(Protocol):
    """An object whose state a checkpoint can keep."""

    def state_dict(self) -> dict[str, Any]:
        """The state: tensors, numbers, strings, and lists and dictionaries of them."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state."""


@dataclass
class Schedule:
    """How long to train, and when to stop."""

    epochs: int
    patience: int  # epochs without a better dev metric before stopping
    seed: int
    keep_last: bool = False  # keep the last epoch's weights and never stop early; a search needs this
    average: float | None = None  # decay of an exponential moving average of the weights, which is evaluated and kept


@dataclass
class FitState:
    """The position of a training and its history, saved in every checkpoint."""

    epoch: int = 0
    step: int = 0  # within the epoch
    best_epoch: int = -1
    history: list[dict[str, float]] = field(default_factory=list)  # dev metrics of each epoch
    random: list[list[Tensor]] = field(default_factory=list)  # `random_state` of each process, if there are several

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From the checkpoint."""
        vars(self).update(state)


def fit(
    name: str,
    model: nn.Module,
    steps: list[OptimizerStep],
    evaluate: Callable[[nn.Module], dict[str, float]],
    schedule: Schedule,
    workspace: Path,
    extra: Sequence[Stateful] = (),
) -> FitState:
    """Train `model` in place. At the end it has the weights of its best epoch, or of its last, see `Schedule`.

    :param name: shown beside the progress.
    :param steps: the optimisers of a training step. An epoch is one pass over the batches of the first one. The batches of
        the others are repeated.
    :param evaluate: computes the dev metrics after each epoch. A larger `metric` is better. An epoch without a `metric`
        cannot be the best. The last epoch must have one.
    :param workspace: directory for the checkpoint. A training that was interrupted continues from it.
    :param extra: other objects that change during the training. Checkpoints keep their states too.
    :raises UserError: the checkpoint is damaged, for example by a crash of the machine.
    """
    accelerator = make_accelerator()
    set_seed(schedule.seed, device_specific=True)  # each process needs its own dropout masks
    state = FitState()
    # No DistributedDataParallel: the losses call parts of the model directly, and the wrapper would not notice these calls.
    model = accelerator.prepare_model(model, evaluation_mode=True)
    processes.broadcast(value for value in (*model.parameters(), *model.buffers()) if value.is_floating_point())
    tables = RowwiseTables((step.optimizer, step.tables) for step in steps if step.tables)
    steps = [replace(step, optimizer=accelerator.prepare_optimizer(step.optimizer)) for step in steps]
    schedulers = [make_scheduler(step, schedule.epochs * len(steps[0].loader)) for step in steps]
    averaged: AveragedModel | None = None
    if schedule.average is not None:
        averaged = averaged_model(accelerator.unwrap_model(model), schedule.average, tables)
    accelerator.register_for_checkpointing(state, *schedulers, *([averaged] if averaged else []), *extra)
    checkpoint, best = workspace / "checkpoint", workspace / "best.pt"
    if processes.is_first():
        recover_directory(checkpoint)
    processes.barrier()
    if checkpoint.is_dir():
        with _reading(checkpoint):
            accelerator.load_state(str(checkpoint))
        if processes.rank() < len(state.random):
            restore_random_state(state.random[processes.rank()])
        if best.exists():  # now, and not after hours of further training
            with _reading(best):
                torch.load(best, map_location="cpu", weights_only=True, mmap=True)
        processes.barrier()  # the first process must not replace it before all have read it
    loop = _Loop(model, steps, schedulers, schedule, state, checkpoint, best, accelerator, averaged)
    with tables.updated(), TrainingProgress(name, schedule.epochs * len(steps[0].loader)) as progress:
        if state.epoch or state.step:
            progress.note(f"carrying on at epoch {state.epoch + 1}, step {state.step + 1}")
        while state.epoch < schedule.epochs and (
            schedule.keep_last or state.epoch - state.best_epoch <= schedule.patience
        ):
            loop.train_epoch(progress)
            tables.bring_up_to_date()
            metrics = evaluate(loop.evaluated_model)
            loop.finish_epoch(processes.broadcast_result(lambda: metrics))  # noqa: B023 - all stop at the same epoch
            loop.save_if_due()
            progress.evaluated(state.epoch, metrics)
        loop.save()  # a run that is killed later must find this training finished
    processes.barrier()
    with _reading(best):
        accelerator.unwrap_model(model).load_state_dict(torch.load(best, map_location="cpu", weights_only=True))
    accelerator.free_memory()
    return state


@contextmanager
def _reading(saved: Path) -> Iterator[None]:
    """Turn any exception inside into one line about what an interrupted training has left.

    torch, pickle, safetensors and zipfile raise exceptions of unrelated classes.
    """
    try:
        yield
    except Exception as error:
        if machine_fault(error) is not None:
            raise
        raise UserError(
            f"{saved}: what an interrupted training has left here cannot be read; remove {saved.parent} and run the same command again, "
            "which trains this part anew"
        ) from error


@dataclass
class _Loop:
    model: nn.Module
    steps: list[OptimizerStep]
    schedulers: list[LambdaLR]
    schedule: Schedule
    state: FitState
    checkpoint: Path
    best: Path  # weights of the best epoch at the time of the checkpoint
    accelerator: Accelerator
    averaged: AveragedModel | None
    unsaved_best: dict[str, Tensor] | None = None  # weights that the next checkpoint writes to `best`
    saved: float = field(default_factory=time.monotonic)  # when the last checkpoint was written
    is_due: bool = False  # whether the first process found that it is time for a checkpoint

    @property
    def evaluated_model(self) -> nn.Module:
        """The model that is evaluated and kept: the moving average if there is one."""
        return self.averaged.module if self.averaged else self.accelerator.unwrap_model(self.model)

    def train_epoch(self, progress: TrainingProgress) -> None:
        """Train until the end of the current epoch."""
        self.model.train()
        length = len(self.steps[0].loader)
        streams = [self._batches(step, -(-self.state.step // step.every)) for step in self.steps]
        for number in range(self.state.step, length):
            done = self.state.epoch * length + number
            losses = [
                self._step(step, scheduler, next(stream), done / (self.schedule.epochs * length))
                for step, scheduler, stream in zip(self.steps, self.schedulers, streams, strict=True)
                if number % step.every == 0
            ]
            if self.averaged:
                self.averaged.update_parameters(self.accelerator.unwrap_model(self.model))
            self.state.step = number + 1
            progress.advanced(done + 1, losses[0])
            self.save_if_due()

    def finish_epoch(self, metrics: dict[str, float]) -> None:
        """Record the metrics, and keep the weights if they are the best."""
        state = self.state
        has_metric, is_first = "metric" in metrics, state.best_epoch < 0
        if self.schedule.keep_last or (
            has_metric and (is_first or metrics["metric"] > state.history[state.best_epoch]["metric"])
        ):
            state.best_epoch = state.epoch
            weights = self.evaluated_model.state_dict()
            self.unsaved_best = {name: value.detach().cpu().clone() for name, value in weights.items()}
        state.history.append(metrics)
        state.epoch, state.step = state.epoch + 1, 0

    def save_if_due(self) -> None:
        """Write a checkpoint if a minute has passed since the last one. After every short epoch would take most of the time."""
        if self.is_due if processes.size() > 1 else self._is_late():
            self.save()

    def _is_late(self) -> bool:
        return time.monotonic() - self.saved > CHECKPOINT_SECONDS

    def save(self) -> None:
        """Write the best weights and the checkpoint. Each replaces the old one only when it is complete.

        Only the first process writes. The states of the processes differ only in their random numbers, which it gets from all.
        """
        self.is_due = False
        self.state.random = processes.gather(random_state()) if processes.size() > 1 else []
        if not processes.is_first():
            return
        if self.unsaved_best is not None:
            self.best.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.best.with_suffix(".tmp")
            torch.save(self.unsaved_best, temporary)
            os.replace(temporary, self.best)
            self.unsaved_best = None
        temporary = self.checkpoint.with_name("checkpoint.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        self.accelerator.save_state(str(temporary))
        replace_directory(temporary, self.checkpoint)
        self.saved = time.monotonic()

    def _step(self, step: OptimizerStep, scheduler: LambdaLR, batch: Batch, progress: float) -> float:
        share = share_of(batch)
        loss = torch.zeros(())
        if share is not None:
            with self.accelerator.autocast():
                loss = step.loss(share.to(self.accelerator.device), progress)
            self.accelerator.backward(loss)
        if processes.size() > 1:
            self._average(step.parameters, 0.0 if share is None else len(share) / len(batch))
        if any(weight.grad is not None and weight.grad.is_sparse for weight in step.parameters):
            clip_sparse_gradients(step.parameters, step.max_grad_norm)
        else:
            self.accelerator.clip_grad_norm_(step.parameters, step.max_grad_norm)
        step.optimizer.step()
        scheduler.step()
        # The weights of the other optimisers got gradients too. Their next step must not use them.
        self.model.zero_grad(set_to_none=True)
        return float(loss.detach())

    def _average(self, parameters: list[nn.Parameter], share: float) -> None:
        """Average the processes' gradients by their shares of the batch, and their BatchNorm statistics."""
        # In a search, each process may have sampled another operation. A weight that no process used gets no gradient, so that
        # the optimiser does not change it.
        used = torch.tensor([float(weight.grad is not None) for weight in parameters])
        due = torch.tensor([float(processes.is_first() and self._is_late())])
        for weight in parameters:
            weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad * share
        gradients = [cast(Tensor, weight.grad) for weight in parameters]
        norms = [module for module in self.model.modules() if isinstance(module, nn.BatchNorm1d)]
        statistics = [cast(Tensor, value) for norm in norms for value in (norm.running_mean, norm.running_var)]
        for value in statistics:
            value.div_(processes.size())
        processes.all_reduce([used, due, *gradients, *statistics])
        self.is_due |= bool(due)
        for weight, count in zip(parameters, used.tolist(), strict=True):
            if not count:
                weight.grad = None

    def _batches(self, step: OptimizerStep, skip: int) -> Iterator[Batch]:
        """The optimiser's batches, repeated without end, from position `skip` of the epoch on."""
        size = len(step.loader)
        number, skip = divmod(skip, size)  # of the pass over the batches
        passes_per_epoch = -(-len(self.steps[0].loader) // size)
        while True:
            sampler: Any = step.loader.batch_sampler  # `LengthBatches`, or another class with `start_at`
            sampler.start_at(self.state.epoch * passes_per_epoch + number, skip)
            yield from step.loader
            number, skip = number + 1, 0
