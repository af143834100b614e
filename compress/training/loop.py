"""The one training loop: teacher, search and student all run through `fit`.

Progress with loss, dev metric and time left; early stopping; checkpoints from which a killed run goes on exactly
where it was; device placement and mixed precision through accelerate; one process or several.

Several processes share each batch, and weigh their gradients by their shares: `batch_size` means the same whatever their
number, and so do the steps. BatchNorm sees a process's share alone, as usual; its running statistics are averaged.
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
import torch.utils.deterministic
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from compress import processes
from compress.data.batches import Batch
from compress.data.files import recover_directory, replace_directory
from compress.runtime.errors import UserError
from compress.training.progress import TrainingProgress

CHECKPOINT_SECONDS = 60.0
PRECISIONS = ("no", "bf16", "fp16")


class Loss(Protocol):
    """What one optimiser minimises."""

    def __call__(self, batch: Batch, progress: float) -> Tensor:
        """Scalar loss of a batch; `progress` runs from 0 to 1 over the training."""


class Stateful(Protocol):
    """What a checkpoint can hold."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers, strings, lists and tables of them."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them back."""


@dataclass
class Turn:
    """One optimiser's part of a step. A plain training has one turn; a search alternates two."""

    loader: DataLoader[int]
    optimizer: torch.optim.Optimizer
    loss: Loss
    warmup: float = 0.0  # share of the steps with a rising rate; then it falls linearly to zero
    max_grad_norm: float = 1.0
    constant: bool = False  # keep the learning rate as it is
    every: int = 1  # take the turn at every so-many-th step only

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What the optimiser moves."""
        return [weight for group in self.optimizer.param_groups for weight in group["params"]]


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


def make_accelerator() -> Accelerator:
    """Mixed precision (bf16) where the GPU or else the CPU multiplies it natively, fp32 elsewhere.

    `ACCELERATE_MIXED_PRECISION`, which `accelerate launch --mixed_precision` sets, decides where it is set.

    :raises UserError: it is set to something else than a precision, or to one that is not to be had here.
    """
    processes.join()
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION")
    if asked and asked not in PRECISIONS:
        raise UserError(f"ACCELERATE_MIXED_PRECISION: {asked!r} is none of {', '.join(PRECISIONS)}")
    if asked == "fp16" and not torch.cuda.is_available():  # accelerate would train in fp32 without a word
        raise UserError("ACCELERATE_MIXED_PRECISION: fp16 needs a GPU, and torch sees none; take bf16 or no")
    if torch.cuda.is_available():
        _compute_alike_every_time()
    return Accelerator(mixed_precision=asked or ("bf16" if _has_bf16() else "no"))


def _compute_alike_every_time() -> None:
    """Let a GPU add up in a fixed order, so that a seed gives one student, as on a CPU.

    It costs nothing here: the attention that this rules out, cuDNN's, plans anew for every length of a batch, which takes
    longer than the teacher's training. What has no such form raises PyTorch's RuntimeError, at the first step.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the first product is computed
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # none is read unwritten


def _has_bf16() -> bool:
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def fit(
    name: str,
    model: nn.Module,
    turns: list[Turn],
    evaluate: Callable[[nn.Module], dict[str, float]],
    schedule: Schedule,
    workspace: Path,
    accelerator: Accelerator,
    extra: Sequence[Stateful] = (),
) -> FitState:
    """Train `model` and leave it with the weights of its best epoch (or its last, see `Schedule`).

    :param name: shown beside the progress.
    :param turns: the parts of a step; the first turn's loader sets the number of steps in an epoch, others go round.
    :param evaluate: dev metrics of the model after each epoch; the larger `metric`, the better. An epoch without a `metric`
        is passed over when the best is chosen; the last must have one.
    :param workspace: directory for the checkpoint; a training found there is carried on.
    :param extra: what else changes with the training, and is saved and restored with it.
    """
    set_seed(schedule.seed, device_specific=True)  # each process drops out other units
    state = FitState()
    # Not wrapped for several processes: the losses call the model's parts, which a wrapper would not see.
    model = accelerator.prepare_model(model, evaluation_mode=True)
    processes.take_first(value for value in (*model.parameters(), *model.buffers()) if value.is_floating_point())
    turns = [replace(turn, optimizer=accelerator.prepare_optimizer(turn.optimizer)) for turn in turns]
    schedulers = [_scheduler(turn, schedule.epochs * len(turns[0].loader)) for turn in turns]
    averaged: AveragedModel | None = None
    if schedule.average is not None:
        update = _moving_average(schedule.average)
        averaged = AveragedModel(accelerator.unwrap_model(model), multi_avg_fn=update, use_buffers=True)
    accelerator.register_for_checkpointing(state, *schedulers, *([averaged] if averaged else []), *extra)
    checkpoint, best = workspace / "checkpoint", workspace / "best.pt"
    if processes.is_first():
        recover_directory(checkpoint)
    processes.wait()
    if checkpoint.is_dir():
        accelerator.load_state(str(checkpoint))
        processes.wait()  # the first process may be about to replace it
    loop = _Loop(model, turns, schedulers, schedule, state, checkpoint, best, accelerator, averaged)
    with TrainingProgress(name, schedule.epochs * len(turns[0].loader)) as progress:
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
    processes.wait()
    accelerator.unwrap_model(model).load_state_dict(torch.load(best, map_location="cpu", weights_only=True))
    accelerator.free_memory()
    return state


def predict(
    model: nn.Module, loader: DataLoader[int], forward: Callable[[nn.Module, Batch], Tensor], accelerator: Accelerator
) -> Tensor:
    """Outputs (N, …) of `forward(model, batch)` for every example, in the order of the split, on the CPU.

    The model computes where it is. Several processes, which must all come here, share each batch and get all outputs.
    """
    model.eval()
    out: Tensor | None = None
    device = next(model.parameters()).device
    with torch.inference_mode(), accelerator.autocast():
        for batch in loader:
            rows = _share(batch)
            own = rows or batch  # a process without a share needs to know an output's shape
            values = forward(model, {name: tensor.to(device) for name, tensor in own.items()}).float()
            if out is None:
                out = torch.zeros(len(loader.dataset), *values.shape[1:])  # type: ignore[arg-type]
            if rows:
                out[rows["index"]] = values.cpu()
        assert out is not None, "an empty split reaches no training"
        processes.add_up([out])
    return out


def _share(batch: Batch) -> Batch:
    """The rows of a batch that are for this process; nothing where there are fewer rows than processes."""
    first, step = processes.rank(), processes.size()
    if step == 1:
        return batch
    return {name: tensor[first::step] for name, tensor in batch.items()} if len(batch["index"]) > first else {}


@dataclass
class _Loop:
    model: nn.Module
    turns: list[Turn]
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
        steps = len(self.turns[0].loader)
        streams = [self._batches(turn, -(-self.state.step // turn.every)) for turn in self.turns]
        for step in range(self.state.step, steps):
            done = self.state.epoch * steps + step
            losses = [
                self._step(turn, scheduler, next(stream), done / (self.schedule.epochs * steps))
                for turn, scheduler, stream in zip(self.turns, self.schedulers, streams, strict=True)
                if step % turn.every == 0
            ]
            if self.averaged:
                self.averaged.update_parameters(self.accelerator.unwrap_model(self.model))
            self.state.step = step + 1
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

    def _step(self, turn: Turn, scheduler: LambdaLR, batch: Batch, progress: float) -> float:
        share = _share(batch)
        loss = torch.zeros(())
        if share:
            share = {name: tensor.to(self.accelerator.device) for name, tensor in share.items()}
            with self.accelerator.autocast():
                loss = turn.loss(share, progress)
            self.accelerator.backward(loss)
        if processes.size() > 1:
            self._average(turn.parameters, len(share.get("index", [])) / len(batch["index"]))
        self.accelerator.clip_grad_norm_(turn.parameters, turn.max_grad_norm)
        turn.optimizer.step()
        scheduler.step()
        # Another turn's parameters collected gradients too; theirs must not leak into its next step.
        self.model.zero_grad(set_to_none=True)
        return float(loss.detach())

    def _average(self, parameters: list[nn.Parameter], share: float) -> None:
        """Average the processes' gradients by their shares of the batch, and their BatchNorm statistics."""
        # Each may have drawn another operation; a weight that none has used keeps no gradient, so that it is not moved.
        used = torch.tensor([float(weight.grad is not None) for weight in parameters])
        for weight in parameters:
            weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad * share
        gradients = [cast(Tensor, weight.grad) for weight in parameters]
        norms = [module for module in self.model.modules() if isinstance(module, nn.BatchNorm1d)]
        statistics = [cast(Tensor, value) for norm in norms for value in (norm.running_mean, norm.running_var)]
        for value in statistics:
            value.div_(processes.size())
        processes.add_up([used, *gradients, *statistics])
        for weight, count in zip(parameters, used.tolist(), strict=True):
            if not count:
                weight.grad = None

    def _batches(self, turn: Turn, skip: int) -> Iterator[Batch]:
        """The turn's batches from position `skip` of the epoch, round and round."""
        size = len(turn.loader)
        lap, skip = divmod(skip, size)
        laps_an_epoch = -(-len(self.turns[0].loader) // size)
        while True:
            sampler: Any = turn.loader.batch_sampler  # `LengthBatches`, or another with its `start_at`
            sampler.start_at(self.state.epoch * laps_an_epoch + lap, skip)
            yield from turn.loader
            lap, skip = lap + 1, 0


def _moving_average(decay: float) -> Callable[..., None]:
    """An exponential moving average whose decay rises with the steps to `decay`: a short training forgets its start too."""

    def update(averaged: Any, current: Any, steps: Tensor | int) -> None:
        get_ema_multi_avg_fn(min(decay, (1 + int(steps)) / (10 + int(steps))))(averaged, current, steps)

    return update


def _scheduler(turn: Turn, steps: int) -> LambdaLR:
    warmup = max(1, round(turn.warmup * steps))

    def factor(step: int) -> float:
        if turn.constant:
            return 1.0
        return min((step + 1) / warmup, max(0.0, (steps - step) / max(1, steps - warmup)))

    optimizer = getattr(turn.optimizer, "optimizer", turn.optimizer)  # the one inside accelerate's wrapper
    return LambdaLR(optimizer, factor)
