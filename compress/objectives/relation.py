"""MiniLM's losses on the relations between the tokens of the last layer (arXiv 2002.10957, §3).

Every loss is per example, (B,).
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from compress.objectives.layerwise import token_mean


def attention_relation(student_scores: Tensor, teacher_scores: Tensor, mask: Tensor) -> Tensor:
    """KL(softmax A_T ‖ softmax A_S), mean over heads and real query positions (Eq. 5): scores (B, H, L, L) → (B,).

    :param mask: (B, L), 1 on real tokens.
    """
    return _relation_divergence(student_scores, teacher_scores, mask)


def value_relation(student_values: Tensor, teacher_values: Tensor, mask: Tensor) -> Tensor:
    """KL between softmax(V Vᵀ / √d) of teacher and student (Eq. 6-8): values (B, H, L, d), where d may differ → (B,)."""
    return _relation_divergence(
        scaled_dot_products(student_values, student_values), scaled_dot_products(teacher_values, teacher_values), mask
    )


def scaled_dot_products(first: Tensor, second: Tensor) -> Tensor:
    """A Bᵀ / √d of vectors (B, H, L, d) of each head → (B, H, L, L)."""
    return first.float() @ second.float().transpose(-1, -2) / first.shape[-1] ** 0.5


def _relation_divergence(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    padding = (mask == 0)[:, None, None, :]  # of the keys
    log_p = F.log_softmax(teacher.float().masked_fill(padding, -1e9), dim=-1)
    log_q = F.log_softmax(student.float().masked_fill(padding, -1e9), dim=-1)
    divergence = (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean(dim=1)  # (B, L): sum over keys, mean over heads
    return token_mean(divergence, mask)
