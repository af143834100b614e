"""What a student learns from, as tensors, and what it starts from."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from compress.data.batches import EncodedSplit


@dataclass(frozen=True, kw_only=True)
class StudentTask:
    """All that a training of a student needs besides the student and the recipe."""

    train: EncodedSplit  # see `TrainingTexts`; with the teacher's outputs, where the student has a teacher
    labelled: int  # how many texts are the task's own; they come first
    groups: list[int]  # (labelled,): texts of one group share words, see `shared_text_groups`
    dev: EncodedSplit
    labels: list[str]
    pair: bool  # whether each example is a pair of texts
    embeddings: Tensor  # the teacher's word embeddings (V, d)
    seed: int
