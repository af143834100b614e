"""REINFORCE (Williams 1992) for keep-or-drop decisions, with baselines, held to a policy to start from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


def reinforce_loss(logits: Tensor, actions: Tensor, advantage: Tensor, kl: float, prior: float) -> Tensor:
    """−mean_i A_i · log π(a_i | s_i) + β · mean_i KL(π(· | s_i) ‖ prior), whose gradient at β = 0 is minus the policy gradient / N.

    :param logits: log odds of keeping (N,).
    :param actions: what was done (N,), 1 for keep and 0 for drop.
    :param advantage: A, the reward less the baseline: of each decision (N,), or one that all share.
    :param kl: β.
    :param prior: probability of keeping. At ½, the second term is the usual bonus for entropy, but for a constant.
    """
    log_probability = -F.binary_cross_entropy_with_logits(logits, actions, reduction="none")
    return -(advantage * log_probability).mean() + kl * bernoulli_kl(logits, prior).mean()


def text_advantages(credits: Tensor, actions: Tensor, alternative: float) -> Tensor:
    """(N,): what each decision brought less what the other would have, over the root mean square of these differences.

    The other decision is the baseline, so that what was done with the rest plays no part. That baseline depends on the
    action, and the expected gradient is twice the policy's; without noise where both actions are as likely, as they are at a
    prior of ½, and with the more of it the surer the policy is.

    :param credits: what keeping each text brings, (N,).
    :param actions: what was done, (N,).
    :param alternative: what the target text brings that takes the place of a dropped one.
    """
    gain = credits - alternative
    return (2 * actions - 1) * gain / (gain.square().mean().sqrt() + 1e-12)


def bernoulli_entropy(logits: Tensor) -> Tensor:
    """H in nats of each decision: log odds (N,) → (N,)."""
    keep = torch.sigmoid(logits)
    return F.softplus(logits) - keep * logits


def bernoulli_kl(logits: Tensor, prior: float) -> Tensor:
    """KL(π ‖ prior) in nats of each decision: log odds (N,) → (N,)."""
    keep = torch.sigmoid(logits)
    return -bernoulli_entropy(logits) - keep * math.log(prior) - (1 - keep) * math.log1p(-prior)


@dataclass
class Baseline:
    """Moving average of the rewards and of their squared distance from it."""

    decay: float
    mean: float | None = None
    variance: float | None = None

    def advantage(self, reward: float) -> float:
        """(r − b) / σ, then the averages take the reward in.

        The first reward sets the baseline. Divided by σ, since a student's gains shrink as it learns, and the
        prior would else decide everything in the end.
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
