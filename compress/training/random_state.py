"""The random numbers of a process: those of torch, which all trainings draw from."""

from __future__ import annotations

import torch
from torch import Tensor


def random_state() -> list[Tensor]:
    """The state of the CPU's generator, and of the GPU's if there is a GPU."""
    states = [torch.random.get_rng_state()]
    return [*states, torch.cuda.get_rng_state()] if torch.cuda.is_available() else states


def restore_random_state(states: list[Tensor]) -> None:
    """Continue from `random_state`, as far as this machine has the same generators."""
    torch.random.set_rng_state(states[0])
    if len(states) > 1 and torch.cuda.is_available():
        torch.cuda.set_rng_state(states[1])
