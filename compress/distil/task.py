"""What a student learns from, as tensors, and what it starts from."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from compress.data.batches import EncodedSplit


@dataclass(frozen=True)
class StudentTask:
    """Texts, the teacher's outputs on them, and the words' first meaning.

    `train.targets` has `logits` (N, C), the teacher's, and for a searched student `probes` (N, J, C), one probe for each
    of its layers. The label of an augmented text is the teacher's verdict.
    """

    train: EncodedSplit  # the task's labelled texts, then those of a source domain, unlabelled ones, augmented ones
    labelled: int  # how many the task's own are
    groups: list[int]  # (labelled,); texts of one group share words, see `shared_text_groups`
    dev: EncodedSplit
    labels: list[str]
    pair: bool
    pad_token_id: int
    embeddings: Tensor  # the teacher's word embeddings (V, d)
    seed: int
