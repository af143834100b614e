"""Losses on hidden states and attention scores, and the matching of layers (TinyBERT, PKD, DistilBERT).

Every loss is per example, (B,). It is reduced over positions, heads and width, but not over the batch. Padding is left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def matched_layers(student_layers: int, teacher_layers: int) -> list[int]:
    """The teacher layer, counted from 1, for each student layer i = 1 … K: round(i · teacher_layers / K), at least 1.

    AdaBERT, §3.2.1. If teacher_layers is a multiple of K, this is also TinyBERT's uniform map g(m) = m · N / M. A student
    may have more layers than its teacher.
    """
    # A half is rounded up, to the deeper layer. Python's `round` would round it to the even number.
    return [max(1, int(i * teacher_layers / student_layers + 0.5)) for i in range(1, student_layers + 1)]


def patient_layers(student_layers: int, teacher_layers: int, strategy: str) -> list[int]:
    """Teacher layers, counted from 1, for the student's layers 1 … K − 1 (PKD, arXiv 1908.09355, §3.2).

    "skip" takes layers at equal distances. "last" takes the layers right below the top one. The student's last layer has
    no teacher layer, since it learns from the predictions. For 6 student layers and 12 teacher layers, "skip" gives
    2 4 6 8 10 and "last" gives 7 8 9 10 11.
    """
    if strategy == "skip":
        return matched_layers(student_layers, teacher_layers)[:-1]
    return [teacher_layers - student_layers + i for i in range(1, student_layers)]


def patient_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """‖h_S/‖h_S‖ − h_T/‖h_T‖‖² of matched [CLS] states, each (B, d) (PKD, Eq. 7) → (B,).

    It is the mean over width and layers, as in the authors' code. The equation has the sum, but the authors' values of β,
    10 to 1000, belong to the mean.
    """
    errors = [
        (F.normalize(s.float(), dim=-1) - F.normalize(t.float(), dim=-1)).square().mean(dim=-1)
        for s, t in zip(student, teacher, strict=True)
    ]
    return torch.stack(errors).mean(dim=0)


def state_error(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of states (B, L, d) over real tokens and width (TinyBERT, Eq. 8 and 9) → (B,).

    :param mask: (B, L), 1 on real tokens.
    """
    error = (student.float() - teacher.float()).square().mean(dim=-1)
    return token_mean(error, mask)


def attention_error(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of attention scores before softmax (B, H, L, L) over heads and real pairs (TinyBERT, Eq. 7) → (B,)."""
    error = (student.float() - teacher.float()).square().mean(dim=1)  # (B, L, L)
    pairs = mask[:, :, None] * mask[:, None, :]
    return (error * pairs).sum(dim=(1, 2)) / pairs.sum(dim=(1, 2))


def cosine_distance(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """1 − cos of the hidden states (B, L, d), mean over real tokens (DistilBERT, arXiv 1910.01108, §3) → (B,)."""
    return token_mean(1 - F.cosine_similarity(student.float(), teacher.float(), dim=-1), mask)


def token_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of (B, L) over real tokens → (B,)."""
    return (values * mask).sum(dim=1) / mask.sum(dim=1)
