"""MiniLM's losses: how the last layer's tokens relate to each other (arXiv 2002.10957, §3). Per example, (B,)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def attention_relation(student_scores: Tensor, teacher_scores: Tensor, mask: Tensor) -> Tensor:
    """KL(softmax A_T ‖ softmax A_S), mean over heads and real query positions (Eq. 5): scores (B, H, L, L) → (B,).

    :param mask: (B, L), 1 on real tokens.
    """
    return _relation_divergence(student_scores, teacher_scores, mask)


def value_relation(student_values: Tensor, teacher_values: Tensor, mask: Tensor) -> Tensor:
    """KL between softmax(V Vᵀ / √d) of teacher and student (Eq. 6-8): values (B, H, L, d), d may differ → (B,)."""
    return _relation_divergence(_dot_products(student_values), _dot_products(teacher_values), mask)


def _dot_products(values: Tensor) -> Tensor:
    values = values.float()
    return values @ values.transpose(-1, -2) / values.shape[-1] ** 0.5


def _relation_divergence(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    hidden = (mask == 0)[:, None, None, :]  # keys that are padding
    log_p = F.log_softmax(teacher.float().masked_fill(hidden, -1e9), dim=-1)
    log_q = F.log_softmax(student.float().masked_fill(hidden, -1e9), dim=-1)
    divergence = (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean(dim=1)  # (B, L): sum over keys, mean over heads
    return (divergence * mask).sum(dim=1) / mask.sum(dim=1)
