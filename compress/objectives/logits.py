"""Losses on logits. Every loss is per example, (B,), so that the caller can weight the examples."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def cross_entropy(student_logits: Tensor, labels: Tensor) -> Tensor:
    """−log p(y): logits (B, C), labels (B,) → (B,)."""
    return F.cross_entropy(student_logits.float(), labels, reduction="none")


def soft_cross_entropy(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """−Σ_c p_T(c) log p_S(c) at τ, without the factor τ² (TinyBERT, arXiv 1909.10351, Eq. 10): (B, C)² → (B,)."""
    target = F.softmax(teacher_logits.float() / temperature, dim=-1)
    return -(target * F.log_softmax(student_logits.float() / temperature, dim=-1)).sum(dim=-1)


def soft_labels(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """τ² · KL(p_T ‖ p_S) at temperature τ (Hinton et al., arXiv 1503.02531, §2.1): (B, C)² → (B,)."""
    log_p = F.log_softmax(teacher_logits.float() / temperature, dim=-1)
    log_q = F.log_softmax(student_logits.float() / temperature, dim=-1)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(dim=-1)


def logit_error(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Mean over classes of the squared difference of the logits (arXiv 1903.12136, Eq. 3): (B, C)² → (B,)."""
    return (student_logits.float() - teacher_logits.float()).square().mean(dim=-1)
