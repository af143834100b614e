"""One optimiser of a training: its batches, its loss and its learning rate."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from transformers import get_scheduler

from compress.data.batches import Batch
from compress.recipe.sections import TrainOptions


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
) -> OptimizerStep:
    """AdamW with the learning rate, weight decay and clipping of a recipe's section. Every training of weights uses it.

    :param parameters: weights, or parameter groups with their own settings.
    :param learning_rate: replaces the section's learning rate.
    :param constant: a constant learning rate, without warm-up.
    """
    rate = options.learning_rate if learning_rate is None else learning_rate
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=options.weight_decay, fused=True)
    warmup = 0.0 if constant else options.warmup
    return OptimizerStep(loader, optimizer, loss, warmup, options.max_grad_norm, constant)


def make_scheduler(step: OptimizerStep, steps: int) -> LambdaLR:
    """The learning rate over `steps` training steps: constant, or a linear rise from 0 and a linear fall to 0."""
    optimizer = getattr(step.optimizer, "optimizer", step.optimizer)  # without accelerate's wrapper
    if step.constant:
        return get_scheduler("constant", optimizer)
    warmup = round(step.warmup * steps)
    return get_scheduler("linear", optimizer, num_warmup_steps=warmup, num_training_steps=steps)


def moving_average(decay: float) -> Callable[..., None]:
    """An exponential moving average of weights, for `torch.optim.swa_utils.AveragedModel`.

    The decay rises with the number of steps up to `decay`. So the average of a short training forgets the first weights too.
    """

    def update(averaged: Any, current: Any, steps: Tensor | int) -> None:
        get_ema_multi_avg_fn(min(decay, (1 + int(steps)) / (10 + int(steps))))(averaged, current, steps)

    return update
