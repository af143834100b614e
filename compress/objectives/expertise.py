"""Meta-KD's prototypes and example weights (arXiv 2012.01266, §3).

Scores and weights are per example, (N,) or (B,).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def prototypes(features: Tensor, domains: Tensor, labels: Tensor, shape: tuple[int, int]) -> Tensor:
    """Prototypes p[k, m]: the mean feature of each class m in each domain k.

    :param features: (N, d).
    :param domains: numbers of the domains, (N,).
    :param labels: numbers of the classes, (N,).
    :param shape: number of domains K and of classes C.
    :returns: (K, C, d). A domain without examples of a class has zeros there.
    """
    group = domains * shape[1] + labels
    sums = features.new_zeros(shape[0] * shape[1], features.shape[1]).index_add(0, group, features)
    counts = torch.bincount(group, minlength=len(sums)).clamp(min=1)
    return (sums / counts[:, None]).view(*shape, -1)


def prototype_scores(features: Tensor, domains: Tensor, labels: Tensor, means: Tensor) -> Tensor:
    """t(x) = ½·cos(f, p[k, m]) + ½·mean over the other domains k' of cos(f, p[k', m]) → (N,), in [−1, 1].

    The score is high if the example is typical of its class in its own domain and in the other domains. One half may be
    missing: there is a single domain, or the prototypes do not have the domain. Then the other half counts twice.

    :param features: (N, d).
    :param domains: numbers of the domains, −1 if unknown, (N,).
    :param labels: numbers of the classes, (N,).
    :param means: `prototypes`, (K, C, d). A prototype of zeros is left out.
    """
    own_class = means[:, labels].transpose(0, 1)  # (N, K, d)
    cosines = F.cosine_similarity(features[:, None], own_class, dim=-1)  # (N, K)
    there = (own_class != 0).any(dim=-1)
    own = (torch.arange(len(means), device=domains.device) == domains[:, None]) & there
    others = ~own & there
    halves = [(cosines * part).sum(dim=1) / part.sum(dim=1).clamp(min=1) for part in (own, others)]
    exists = torch.stack([own.any(dim=1), others.any(dim=1)])
    return (torch.stack(halves) * exists).sum(dim=0) / exists.sum(dim=0).clamp(min=1)


def expertise_weights(scores: Tensor, label_probabilities: Tensor) -> Tensor:
    """λ = (1 + t(x)) / (exp((1 − p_T(y|x))²) + 1) → (N,).

    The weight is high if the teacher is right and the example is typical.

    :param scores: t(x), (N,).
    :param label_probabilities: the teacher's probability of the example's label, (N,).
    """
    return (1 + scores) / (((1 - label_probabilities) ** 2).exp() + 1)


def weighted(losses: Tensor, weights: Tensor | None) -> Tensor:
    """Losses (B,), each multiplied by the weight of its example, (B,). Without weights they are unchanged."""
    return losses if weights is None else losses * weights


def mean_state(states: Tensor, mask: Tensor) -> Tensor:
    """f(x), the mean of the states (B, L, d) over real tokens → (B, d).

    :param mask: (B, L), 1 on real tokens.
    """
    return (states.float() * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
