"""REINFORCE (Williams 1992) for keep-or-drop decisions, with baselines and a KL penalty towards a prior."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


def reinforce_loss(logits: Tensor, actions: Tensor, advantage: Tensor, kl: float, prior: float) -> Tensor:
    """−mean_i A_i · log π(a_i | s_i) + β · mean_i KL(π(· | s_i) ‖ prior).

    At β = 0 its gradient is minus the policy gradient, divided by N.

    :param logits: log odds of keeping (N,).
    :param actions: (N,), 1 for keep and 0 for drop.
    :param advantage: A, the reward minus the baseline: one for each decision (N,), or a scalar for all.
    :param kl: β.
    :param prior: probability of keeping. At ½, the second term is the usual entropy bonus plus a constant.
    """
    log_probability = -F.binary_cross_entropy_with_logits(logits, actions, reduction="none")
    return -(advantage * log_probability).mean() + kl * bernoulli_kl(logits, prior).mean()


def text_advantages(credits: Tensor, actions: Tensor, alternative: float) -> Tensor:
    """(N,): the credit of each decision minus the credit of the other decision, divided by the root mean square of all.

    The baseline of a decision is the credit of the other decision. So the decisions on other texts have no influence.
    This baseline depends on the action, therefore the expected gradient is twice the policy gradient. The gradient has no
    variance where both actions are equally probable, as at first with a prior of ½. The variance rises as the policy
    becomes more certain.

    :param credits: of each text if it is kept, (N,).
    :param actions: (N,), 1 for keep and 0 for drop.
    :param alternative: the credit of a target text that replaces a dropped text.
    """
    gain = credits - alternative
    return (2 * actions - 1) * gain / (gain.square().mean().sqrt() + 1e-12)


def bernoulli_entropy(logits: Tensor) -> Tensor:
    """Entropy in nats of each decision: log odds (N,) → (N,)."""
    keep = torch.sigmoid(logits)
    return F.softplus(logits) - keep * logits


def bernoulli_kl(logits: Tensor, prior: float) -> Tensor:
    """KL(π ‖ prior) in nats of each decision: log odds (N,) → (N,)."""
    keep = torch.sigmoid(logits)
    return -bernoulli_entropy(logits) - keep * math.log(prior) - (1 - keep) * math.log1p(-prior)


@dataclass
class Baseline:
    """The moving averages of the reward and of its squared distance from that average."""

    decay: float
    mean: float | None = None
    variance: float | None = None

    def advantage(self, reward: float) -> float:
        """(r − b) / σ with b the mean and σ² the variance. Afterwards the averages are updated.

        The first reward sets b, and its advantage is 0. The division by σ is needed because a student's gains get smaller
        as it learns. Without it, the KL penalty would dominate at the end of the training.
        """
        if self.mean is None:
            self.mean = reward
            return 0.0
        error = reward - self.mean
        self.variance = error**2 if self.variance is None else self._mix(self.variance, error**2)
        self.mean = self._mix(self.mean, reward)
        return error / (self.variance**0.5 + 1e-8)

    def _mix(self, old: float, new: float) -> float:
        return self.decay * old + (1 - self.decay) * new
