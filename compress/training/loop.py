"""The one training loop: teacher, search and student all run through `fit`.

It shows the loss, the dev metric and the time left. It stops early. It writes checkpoints, from which a killed run goes on
exactly where it was. Device placement and mixed precision come from accelerate.

Several processes share each batch, and weight their gradients by their shares. So `batch_size` and the number of steps
mean the same for any number of processes. BatchNorm sees one process's share only, as usual; its running statistics are averaged.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
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
from compress.data.batches import Batch
from compress.data.files import recover_directory, replace_directory
from compress.training.accelerator import make_accelerator
from compress.training.evaluation import share_of
from compress.training.optimizer import OptimizerStep, make_scheduler, moving_average
from compress.training.progress import TrainingProgress

CHECKPOINT_SECONDS = 60.0


class Stateful(Protocol):
    """What a checkpoint can hold."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers, strings, lists and tables of them."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them back."""


@dataclass
class Schedule:
    """How long to train, and when to stop."""

    epochs: int
    patience: int  # epochs without a better dev metric before stopping
    seed: int
    keep_last: bool = False  # end with the last epoch's weights and never stop early, as a search does
    average: float | None = None  # decay of an exponential moving average, which is then what is judged and kept


@dataclass
class FitState:
    """Where a training stands; saved in every checkpoint. `history` has one entry of dev metrics an epoch."""

    epoch: int = 0
    step: int = 0  # within the epoch
    best_epoch: int = -1
    history: list[dict[str, float]] = field(default_factory=list)

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
    """Train `model` and leave it with the weights of its best epoch (or its last, see `Schedule`).

    :param name: shown beside the progress.
    :param steps: the optimisers of a training step. The first one's batches make an epoch; the others start again when they end.
    :param evaluate: dev metrics of the model after each epoch. The larger `metric`, the better. An epoch without a `metric`
        cannot be the best; the last epoch must have one.
    :param workspace: directory for the checkpoint; a training found there is carried on.
    :param extra: other objects that change with the training, and are saved and restored with it.
    """
    accelerator = make_accelerator()
    set_seed(schedule.seed, device_specific=True)  # each process drops out other units
    state = FitState()
    # Not wrapped for several processes: the losses call the model's parts, which a wrapper would not see.
    model = accelerator.prepare_model(model, evaluation_mode=True)
    processes.broadcast(value for value in (*model.parameters(), *model.buffers()) if value.is_floating_point())
    steps = [replace(step, optimizer=accelerator.prepare_optimizer(step.optimizer)) for step in steps]
    schedulers = [make_scheduler(step, schedule.epochs * len(steps[0].loader)) for step in steps]
    averaged: AveragedModel | None = None
    if schedule.average is not None:
        update = moving_average(schedule.average)
        averaged = AveragedModel(accelerator.unwrap_model(model), multi_avg_fn=update, use_buffers=True)
    accelerator.register_for_checkpointing(state, *schedulers, *([averaged] if averaged else []), *extra)
    checkpoint, best = workspace / "checkpoint", workspace / "best.pt"
    if processes.is_first():
        recover_directory(checkpoint)
    processes.barrier()
    if checkpoint.is_dir():
        accelerator.load_state(str(checkpoint))
        processes.barrier()  # the first process may be about to replace it
    loop = _Loop(model, steps, schedulers, schedule, state, checkpoint, best, accelerator, averaged)
    with TrainingProgress(name, schedule.epochs * len(steps[0].loader)) as progress:
        if state.epoch or state.step:
            progress.note(f"carrying on at epoch {state.epoch + 1}, step {state.step + 1}")
        while state.epoch < schedule.epochs and (
            schedule.keep_last or state.epoch - state.best_epoch <= schedule.patience
        ):
            loop.train_epoch(progress)
            metrics = evaluate(loop.judged)
            loop.finish_epoch(metrics)
            loop.save_if_due()
            progress.evaluated(state.epoch, metrics)
        loop.save()  # what comes after this training finds it done
    processes.barrier()
    accelerator.unwrap_model(model).load_state_dict(torch.load(best, map_location="cpu", weights_only=True))
    accelerator.free_memory()
    return state


@dataclass
class _Loop:
    model: nn.Module
    steps: list[OptimizerStep]
    schedulers: list[LambdaLR]
    schedule: Schedule
    state: FitState
    checkpoint: Path
    best: Path  # the weights of `state.best_epoch`, as of the checkpoint
    accelerator: Accelerator
    averaged: AveragedModel | None
    better: dict[str, Tensor] | None = None  # what `best` will be at the next checkpoint
    saved: float = field(default_factory=time.monotonic)  # when the last checkpoint was written

    @property
    def judged(self) -> nn.Module:
        """The model that is evaluated and kept: the moving average where there is one."""
        return self.averaged.module if self.averaged else self.accelerator.unwrap_model(self.model)

    def train_epoch(self, progress: TrainingProgress) -> None:
        """The rest of the current epoch."""
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
        judged, none_yet = "metric" in metrics, state.best_epoch < 0
        if self.schedule.keep_last or (
            judged and (none_yet or metrics["metric"] > state.history[state.best_epoch]["metric"])
        ):
            state.best_epoch = state.epoch
            self.better = {name: value.detach().cpu().clone() for name, value in self.judged.state_dict().items()}
        state.history.append(metrics)
        state.epoch, state.step = state.epoch + 1, 0

    def save_if_due(self) -> None:
        """A checkpoint a minute: of an epoch of a second, most of the time would go into it."""
        if time.monotonic() - self.saved > CHECKPOINT_SECONDS:
            self.save()

    def save(self) -> None:
        """Write the best weights and the checkpoint whole, then put them in the old ones' places.

        The first process's stands for all: they differ in their random numbers alone.
        """
        if not processes.is_first():
            return
        if self.better is not None:
            self.best.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.best.with_suffix(".tmp")
            torch.save(self.better, temporary)
            os.replace(temporary, self.best)
            self.better = None
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
        self.accelerator.clip_grad_norm_(step.parameters, step.max_grad_norm)
        step.optimizer.step()
        scheduler.step()
        # The other optimisers' weights collected gradients too, which must not be part of their next step.
        self.model.zero_grad(set_to_none=True)
        return float(loss.detach())

    def _average(self, parameters: list[nn.Parameter], share: float) -> None:
        """Average the processes' gradients by their shares of the batch, and their BatchNorm statistics."""
        # Each process may have drawn another operation. A weight that no process used keeps no gradient: it must not move.
        used = torch.tensor([float(weight.grad is not None) for weight in parameters])
        for weight in parameters:
            weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad * share
        gradients = [cast(Tensor, weight.grad) for weight in parameters]
        norms = [module for module in self.model.modules() if isinstance(module, nn.BatchNorm1d)]
        statistics = [cast(Tensor, value) for norm in norms for value in (norm.running_mean, norm.running_var)]
        for value in statistics:
            value.div_(processes.size())
        processes.all_reduce([used, *gradients, *statistics])
        for weight, count in zip(parameters, used.tolist(), strict=True):
            if not count:
                weight.grad = None

    def _batches(self, step: OptimizerStep, skip: int) -> Iterator[Batch]:
        """The optimiser's batches from position `skip` of the epoch on, again and again."""
        size = len(step.loader)
        lap, skip = divmod(skip, size)
        laps_an_epoch = -(-len(self.steps[0].loader) // size)
        while True:
            sampler: Any = step.loader.batch_sampler  # `LengthBatches`, or another one with its `start_at`
            sampler.start_at(self.state.epoch * laps_an_epoch + lap, skip)
            yield from step.loader
            lap, skip = lap + 1, 0
