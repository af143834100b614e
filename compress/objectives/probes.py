"""AdaBERT's probe-based knowledge loss (arXiv 2001.04246, §3.2.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from compress.objectives.layerwise import matched_layers
from compress.objectives.logits import cross_entropy


def probe_distillation(
    student_logits: Sequence[Tensor], probe_logits: Tensor, labels: Tensor, tau: float = 1.0
) -> Tensor:
    """AdaBERT's L_KD (Eq. 4-6): each student layer learns from the probe of its matched teacher layer.

    Each term is the cross-entropy between the probe's distribution and the student's. Its weight for an example is
    w_j ∝ exp(log p_j(y) / τ), normalised over the matched layers. So a layer whose probe is right has a larger weight.

    :param student_logits: K tensors (B, C), first layer to last.
    :param probe_logits: (B, J, C), one probe per teacher layer.
    :param labels: (B,) int64.
    :returns: per example, (B,).
    """
    layers = torch.as_tensor(matched_layers(len(student_logits), probe_logits.shape[1]), device=probe_logits.device) - 1
    log_p = F.log_softmax(probe_logits[:, layers].float(), dim=-1)  # (B, K, C)
    of_label = log_p.gather(2, labels[:, None, None].expand(-1, log_p.shape[1], 1)).squeeze(2)  # (B, K)
    weights = F.softmax(of_label / tau, dim=1)
    log_q = F.log_softmax(torch.stack(list(student_logits), dim=1).float(), dim=-1)  # (B, K, C)
    divergence = -(log_p.exp() * log_q).sum(dim=2)  # (B, K)
    return (weights * divergence).sum(dim=1)


def adabert_loss(
    student_logits: Sequence[Tensor], probe_logits: Tensor, labels: Tensor, gamma: float, tau: float = 1.0
) -> Tensor:
    """(1 − γ)·CE + γ·L_KD per example, (B,) (AdaBERT Eq. 1 without the efficiency term).

    CE uses the logits of the last layer.
    """
    hard = cross_entropy(student_logits[-1], labels)
    return (1 - gamma) * hard + gamma * probe_distillation(student_logits, probe_logits, labels, tau)
