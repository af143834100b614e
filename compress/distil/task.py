"""The input of a student's training."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from compress.data.batches import EncodedSplit


@dataclass(frozen=True, kw_only=True)
class StudentTask:
    """Everything that the training of a student needs, except the student and the recipe."""

    train: EncodedSplit  # see `TrainingTexts`; with the teacher's outputs if there is a teacher
    labelled: int  # number of the task's own texts, which come first
    transfer: int = 0  # number of texts of `train` that are the transfer set; they come last
    share: float = 0.0  # of the transfer set's texts in an epoch
    groups: list[int]  # (labelled,): texts of one group share words, see `shared_text_groups`
    dev: EncodedSplit  # with the teacher's outputs if the student is to learn them: they choose its best epoch
    labels: list[str]
    pair: bool  # whether each example is a pair of texts
    embeddings: Tensor  # (V, d): the teacher's word embeddings, or what its layers make of each token
    seed: int
