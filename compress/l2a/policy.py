"""The selector's policy: what it is told of a text of the pool, and the probability that it keeps the text."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from compress.data.batches import Batch, EncodedSplit, make_loader
from compress.runtime.errors import UserError
from compress.training.accelerator import make_accelerator
from compress.training.evaluation import EVALUATION_BATCH, compute_logits, predict


class Policy(nn.Module):
    """Two layers: states (N, F) → logits (N,) of keeping each text, which at first is as likely as `prior` for all."""

    def __init__(self, features: int, hidden: int, prior: float) -> None:
        super().__init__()
        self.hidden = nn.Linear(features, hidden)
        self.out = nn.Linear(hidden, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.constant_(self.out.bias, math.log(prior / (1 - prior)))

    def forward(self, states: Tensor) -> Tensor:
        """Log odds of keeping."""
        return self.out(torch.tanh(self.hidden(states)))[:, 0]


def policy_states(student: PreTrainedModel, texts: EncodedSplit, log_likelihoods: Tensor, source: Tensor) -> Tensor:
    """The state (N, F) of each text, F = d + 2·C + 3.

    The student's pooled representation (d), layer-normalised and divided by √d so that its many numbers weigh together
    as much as one of the others; the teacher's and the student's probabilities (C each) and their gap ½·Σ|p_T − p_S|; the
    generator's mean log-likelihood (nats); the source flag.

    :param texts: with the teacher's `logits` as a target.
    :param log_likelihoods: (N,).
    :param source: (N,), 1 for a text that started in the source domain.
    """
    found = _observe(student, texts)
    classes = int(student.config.num_labels)
    own, pooled = found[:, :classes].softmax(dim=1), found[:, classes:]
    assert texts.teacher is not None, "the teacher has labelled the pool"
    teacher = texts.teacher.logits.float().softmax(dim=1)
    gap = (teacher - own).abs().sum(dim=1, keepdim=True) / 2
    pooled = F.layer_norm(pooled, pooled.shape[1:]) / pooled.shape[1] ** 0.5
    return torch.cat([pooled, teacher, own, gap, log_likelihoods[:, None], source[:, None]], dim=1)


def state_size(student: PreTrainedModel) -> int:
    """F of `policy_states` for this student."""
    return classifier_of(student).in_features + 2 * int(student.config.num_labels) + 3


def classifier_of(student: PreTrainedModel) -> nn.Linear:
    """The last linear layer, whose input is the pooled representation of a text.

    :raises UserError: there is none with an output for each label.
    """
    classes = int(student.config.num_labels)
    layers = [m for m in student.modules() if isinstance(m, nn.Linear) and m.out_features == classes]
    if not layers:
        raise UserError(
            f"augmentation.method: l2a needs a linear classification layer, and {type(student).__name__} has none"
        )
    return layers[-1]


def _observe(student: PreTrainedModel, texts: EncodedSplit) -> Tensor:
    """Logits and pooled representation of each text, side by side (N, C + d)."""
    caught: list[Tensor] = []
    handle = classifier_of(student).register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))

    def forward(model: nn.Module, batch: Batch) -> Tensor:
        caught.clear()
        logits = compute_logits(student, batch)
        return torch.cat([logits.float(), caught[-1].float()], dim=1)

    try:
        loader = make_loader(texts, EVALUATION_BATCH, shuffle=False)
        # A copy: the loop's policy takes gradients, which inference tensors refuse.
        return predict(student, loader, forward, make_accelerator()).clone()
    finally:
        handle.remove()
