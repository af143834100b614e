"""A tutor: a larger model whose answers the teacher learns instead of the labels (teacher assistants, arXiv 1902.03393).

A student learns less from a teacher that is far more capable than it is. And a large model is slow: it labels a part of the
transfer set for the teacher, and the teacher labels all of it for the student.
"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from compress.data.batches import Batch, EncodedSplit, SoftTargets, encode_split
from compress.data.corpus import Split
from compress.data.tensor_files import load_tensors
from compress.data.transfer_set import load_transfer_set, save_transfer_set
from compress.objectives.logits import soft_labels
from compress.runtime.encode import TextEncoder
from compress.teachers.judge import Judges, judge_texts
from compress.training.evaluation import compute_logits

FILE = "logits.safetensors"


def sample_transfer_set(transfer_set: Path, count: int, seed: int) -> Split:
    """`count` random texts of a transfer set, or all of them."""
    texts = load_transfer_set(transfer_set)
    rows = random.Random(f"tutor/{seed}").sample(range(len(texts)), min(count, len(texts)))
    return texts.take(sorted(rows))


def make_tutor_outputs(
    judges: Judges, encoder: TextEncoder, own: Split, further: Split, dev: Split, directory: Path
) -> None:
    """Write the tutor's logits (N, C) of the training texts and of further texts, and these texts, to `directory`.

    :param judges: the finished tutor.
    :param encoder: with the tutor's tokenizer.
    :param dev: labelled texts on which a faster precision of the tutor is compared with fp32.
    """
    texts = encode_split(own.with_texts_of(further), encoder)
    logits = judge_texts(judges, "auto", texts, encode_split(dev, encoder))
    save_transfer_set(further, directory)
    save_file({"logits": logits.contiguous()}, directory / FILE)


def tutored_texts(outputs: Path, own: Split, encoder: TextEncoder) -> EncodedSplit:
    """What the teacher learns from: the training texts and the further ones, with the tutor's answers.

    :param outputs: what `make_tutor_outputs` wrote for the same training texts.
    :param encoder: with the teacher's tokenizer.
    """
    texts = own.with_texts_of(load_transfer_set(outputs))
    tensors, _ = load_tensors(outputs / FILE)
    return replace(encode_split(texts, encoder), teacher=SoftTargets(tensors["logits"]))


def tutor_loss(model: PreTrainedModel, batch: Batch, progress: float) -> Tensor:
    """KL(p_tutor ‖ p_teacher), the mean over the batch."""
    return soft_labels(compute_logits(model, batch), batch.teacher_logits, 1.0).mean()
