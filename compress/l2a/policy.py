"""The selector's policy: the state of a text of the pool, and the probability that the text is kept."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from compress.data.batches import Batch, EncodedSplit, make_loader
from compress.training.accelerator import make_accelerator
from compress.training.evaluation import EVALUATION_BATCH, compute_logits, predict
from compress.training.output_layer import output_layer

L2A = "augmentation.method: l2a"  # for messages


class Policy(nn.Module):
    """Two layers: states (N, F) → log odds (N,) of keeping each text. At first the probability is `prior` for every text."""

    def __init__(self, features: int, hidden: int, prior: float) -> None:
        super().__init__()
        self.hidden = nn.Linear(features, hidden)
        self.out = nn.Linear(hidden, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.constant_(self.out.bias, math.log(prior / (1 - prior)))

    def forward(self, states: Tensor) -> Tensor:
        """States (N, F) → log odds (N,) of keeping."""
        return self.out(torch.tanh(self.hidden(states)))[:, 0]


def policy_states(student: PreTrainedModel, texts: EncodedSplit, log_likelihoods: Tensor, source: Tensor) -> Tensor:
    """The state (N, F) of each text, F = d + 2·C + 3.

    A state has these parts, in this order:

    - the student's pooled representation (d), layer-normalised and divided by √d, so that its norm is at most 1 like the
      other parts;
    - the teacher's probabilities (C) and the student's probabilities (C);
    - the distance ½·Σ|p_T − p_S| of the two;
    - the generator's mean log-likelihood (nats);
    - the source flag.

    :param texts: with the teacher's logits.
    :param log_likelihoods: (N,), 0 for a real text.
    :param source: (N,), 1 for a text of the source domain and for a sample that was made from one.
    """
    found = _logits_and_pooled(student, texts)
    classes = int(student.config.num_labels)
    own, pooled = found[:, :classes].softmax(dim=1), found[:, classes:]
    assert texts.teacher is not None, "the teacher has labelled the pool"
    teacher = texts.teacher.logits.float().softmax(dim=1)
    distance = (teacher - own).abs().sum(dim=1, keepdim=True) / 2
    pooled = F.layer_norm(pooled, pooled.shape[1:]) / pooled.shape[1] ** 0.5
    return torch.cat([pooled, teacher, own, distance, log_likelihoods[:, None], source[:, None]], dim=1)


def state_size(student: PreTrainedModel) -> int:
    """The number F of features in a state of `policy_states` for this student.

    :raises UserError: it has no linear layer for its logits.
    """
    return output_layer(student, L2A).in_features + 2 * int(student.config.num_labels) + 3


def _logits_and_pooled(student: PreTrainedModel, texts: EncodedSplit) -> Tensor:
    """The logits and the pooled representation of each text, concatenated: (N, C + d)."""
    inputs_seen: list[Tensor] = []
    handle = output_layer(student, L2A).register_forward_pre_hook(lambda _, inputs: inputs_seen.append(inputs[0]))

    def forward(model: nn.Module, batch: Batch) -> Tensor:
        inputs_seen.clear()
        logits = compute_logits(student, batch)
        return torch.cat([logits.float(), inputs_seen[-1].float()], dim=1)

    try:
        loader = make_loader(texts, EVALUATION_BATCH, shuffle=False)
        # A copy, because the policy computes gradients and PyTorch forbids that for inference tensors.
        return predict(student, loader, forward, make_accelerator()).clone()
    finally:
        handle.remove()
