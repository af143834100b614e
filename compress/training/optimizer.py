"""One optimiser of a training: its batches, its loss and its learning rate."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from transformers import get_scheduler

from compress.data.batches import Batch
from compress.recipe.sections import TrainOptions
from compress.training.rowwise import Decay, RowwiseAdamW, RowwiseTables


class Loss(Protocol):
    """What one optimiser minimises."""

    def __call__(self, batch: Batch, progress: float) -> Tensor:
        """Scalar loss of a batch; `progress` runs from 0 to 1 over the training."""


@dataclass
class OptimizerStep:
    """One optimiser's part of a training step. An architecture search has two optimisers, other trainings have one."""

    loader: DataLoader[int]
    optimizer: torch.optim.Optimizer
    loss: Loss
    warmup: float = 0.0  # share of the steps in which the learning rate rises; afterwards it falls linearly to zero
    max_grad_norm: float = 1.0
    constant: bool = False  # a constant learning rate, without warm-up
    every: int = 1  # this optimiser steps only at every n-th training step
    tables: Sequence[nn.Embedding] = ()  # embeddings that only their own forward pass reads, for `RowwiseAdamW`

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The weights that the optimiser changes."""
        return [weight for group in self.optimizer.param_groups for weight in group["params"]]


def adamw(
    loader: DataLoader[int],
    parameters: Iterable[nn.Parameter] | list[dict[str, Any]],
    loss: Loss,
    options: TrainOptions,
    *,
    learning_rate: float | None = None,
    constant: bool = False,
    tables: Sequence[nn.Embedding] = (),
) -> OptimizerStep:
    """AdamW with the learning rate, weight decay and clipping of a recipe's section. Every training of weights uses it.

    :param parameters: weights, or parameter groups with their own settings.
    :param learning_rate: replaces the section's learning rate.
    :param constant: a constant learning rate, without warm-up.
    :param tables: see `OptimizerStep`.
    """
    rate = options.learning_rate if learning_rate is None else learning_rate
    optimizer = RowwiseAdamW(parameters, lr=rate, weight_decay=options.weight_decay, fused=True)
    warmup = 0.0 if constant else options.warmup
    return OptimizerStep(loader, optimizer, loss, warmup, options.max_grad_norm, constant, tables=tables)


def make_scheduler(step: OptimizerStep, steps: int) -> LambdaLR:
    """The learning rate over `steps` training steps: constant, or a linear rise from 0 and a linear fall to 0."""
    optimizer = getattr(step.optimizer, "optimizer", step.optimizer)  # without accelerate's wrapper
    if step.constant:
        return get_scheduler("constant", optimizer)
    warmup = round(step.warmup * steps)
    return get_scheduler("linear", optimizer, num_warmup_steps=warmup, num_training_steps=steps)


def rising_decay(decay: float) -> Decay:
    """A decay that rises with the number of steps up to `decay`. So the average of a short training forgets the first weights too."""
    return lambda step: min(decay, (1 + step) / (10 + step)) if step else 0.0


def moving_average(decay: float, apart: Collection[Tensor] = ()) -> Callable[..., None]:
    """An exponential moving average of weights with `rising_decay`, for `torch.optim.swa_utils.AveragedModel`.

    :param apart: averages that something else updates after the first step.
    """
    decay_at, others = rising_decay(decay), {weights.data_ptr() for weights in apart}

    def update(averaged: Any, current: Any, steps: Tensor | int) -> None:
        pairs = [pair for pair in zip(averaged, current, strict=True) if pair[0].data_ptr() not in others]
        if pairs:
            get_ema_multi_avg_fn(decay_at(int(steps)))([a for a, _ in pairs], [b for _, b in pairs], steps)

    return update


def averaged_model(model: nn.Module, decay: float, tables: RowwiseTables) -> AveragedModel:
    """The `moving_average` of all weights and buffers of a model; `tables` update theirs."""
    averaged = AveragedModel(model, use_buffers=True)
    apart = tables.find_averages(model, averaged.module, rising_decay(decay))
    averaged.multi_avg_fn = moving_average(decay, apart)
    return averaged
