"""Distillation through inner states: which layers are compared, and how (TinyBERT, PKD, DistilBERT).

Every loss is per example, (B,): reduced over positions, heads and width, never over the batch. Padding takes no part.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def matched_layers(student_layers: int, teacher_layers: int) -> list[int]:
    """Teacher layer (counted from 1) for each student layer i = 1 … K: round(i · teacher_layers / K).

    AdaBERT §3.2.1; with teacher_layers a multiple of K also TinyBERT's uniform map g(m) = m · N / M.
    """
    # Halves are rounded up, away from Python's banker's rounding, so that deeper knowledge wins a tie.
    return [int(i * teacher_layers / student_layers + 0.5) for i in range(1, student_layers + 1)]


def patient_layers(student_layers: int, teacher_layers: int, strategy: str) -> list[int]:
    """Teacher layers, counted from 1, for the student's layers 1 … K − 1 (PKD, arXiv 1908.09355, §3.2).

    "skip" takes every so-many-th layer, "last" those right below the top one. The student's last layer has none: it
    learns from the predictions. 6 layers from 12: skip 2 4 6 8 10, last 7 8 9 10 11.
    """
    if strategy == "skip":
        return matched_layers(student_layers, teacher_layers)[:-1]
    return [teacher_layers - student_layers + i for i in range(1, student_layers)]


def patient_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """‖h_S/‖h_S‖ − h_T/‖h_T‖‖² of matched [CLS] states, each (B, d) (PKD, Eq. 7) → (B,).

    The mean over width and layers, as in the authors' code, for which their β of 10 to 1000 are meant; the equation sums.
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
