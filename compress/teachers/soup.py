"""A uniform model soup (Wortsman et al. 2022, arXiv 2203.05482, §2): the weights of several trainings, averaged.

The trainings start from the same weights and take the texts in other orders. So they end in the same valley of the loss, each at another
place of its walls, and the mean of the places lies deeper in it. It is as accurate as the mean of their answers would be, and it is one
model: it labels texts as fast as one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor, nn

from compress.console import console
from compress.training.loop import FitState

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Soup:
    """What came out of the trainings; all dev metrics are fractions of 1."""

    history: list[dict[str, float]]  # of each evaluation, one training after the other
    metric: float  # of the weights that the model has now
    # For the teacher's card: what each training reached, and their mean. Empty if there was one.
    card: dict[str, object]


def train_soup(
    learner: nn.Module, trainings: int, train: Callable[[int], FitState], evaluate: Callable[[], float]
) -> Soup:
    """Train in place, several times from the same weights. The learner ends with the mean of the weights.

    Should that be worse on dev than its parts are on the average, they lie in different valleys, and the best of them is kept.

    :param train: trains the learner in place; `train(0)` is the only call for a single training.
    :param evaluate: the learner's dev metric. A larger one is better.
    """
    first = _weights(learner) if trainings > 1 else {}
    history: list[dict[str, float]] = []
    alone: list[float] = []
    best: Weights = {}
    mean: Weights = {}
    for number in range(trainings):
        if number:
            learner.load_state_dict(first)
        state = train(number)
        history += state.history
        alone.append(state.history[state.best_epoch]["metric"])
        if trainings > 1:
            weights = _weights(learner)
            mean = _mixed(mean, weights, 1 / (number + 1))
            best = weights if alone[-1] == max(alone) else best
    if trainings == 1:
        return Soup(history, alone[0], {})
    learner.load_state_dict(mean)
    averaged = evaluate()
    parts = ", ".join(f"{value:.2%}" for value in alone)
    if kept := averaged >= fmean(alone):
        console.print(
            f"  teacher: the mean of {trainings} trainings' weights has {averaged:.2%} on dev, they alone {parts}"
        )
    else:
        console.print(
            f"  teacher: the mean of {trainings} trainings' weights has only {averaged:.2%} on dev, they alone {parts}; the best is kept"
        )
        learner.load_state_dict(best)
    card = {"alone": [round(value, 4) for value in alone], "averaged": round(averaged, 4), "kept": kept}
    return Soup(history, averaged if kept else max(alone), {"soup": card})


def _weights(learner: nn.Module) -> Weights:
    """A copy on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in learner.state_dict().items()}


def _mixed(mean: Weights, new: Weights, share: float) -> Weights:
    """The mean so far with a share of new weights in it. Whole numbers, as the positions of tokens, are the same in all."""
    if not mean:
        return new
    return {
        name: torch.lerp(mean[name], value, share) if value.is_floating_point() else value
        for name, value in new.items()
    }
