"""The credit of a text: its share, to first order, of the episode's gain on dev.

Why not reward all decisions with the episode's gain: that is one number for a few dozen decisions, and the momentum of the
student's optimiser spreads its effect over later episodes. A training has a few hundred episodes. They are too few to learn
from that number which decisions were good.

To first order, the gain is a sum over the texts: a step with learning rate η on text i changes the reward R on dev by
η·⟨−∇L_i, ∇R⟩ (as in Ren et al. 2018, 1803.09050, eq. 8). This product is the credit of text i. One gradient and two
forward passes give the credits of all texts. Several processes share each batch of these, and all have all credits.

One part of ∇R is removed: the part that makes one label more probable for all dev texts. During training, a student
prefers one label now and another label a few steps later. While it prefers one, every text of the other label would get a
high credit. Credits with this part, computed on the two halves of a dev split, correlate at +1 or −1, and they change
their sign from episode to episode.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from compress import processes
from compress.data.batches import Batch, EncodedSplit, make_loader
from compress.training.evaluation import EVALUATION_BATCH, compute_logits, share_of

# How far the weights are moved for a central difference, as the Euclidean norm of the change (Liu et al. 2019, DARTS, eq. 8).
DIFFERENCE_STEP = 1e-2


def reward_of(logits: Tensor, labels: Tensor, kind: str) -> Tensor:
    """The reward R of each dev text, (N,): minus its cross entropy in nats, or the probability of its label.

    The mean probability is the expected accuracy if labels are drawn from the student's probabilities. It changes smoothly.
    Minus the cross entropy also rises when an overconfident student only becomes less confident; the probability does not.

    :param kind: "loss" for minus the cross entropy, "accuracy" for the probability.
    """
    log_probability = -F.cross_entropy(logits.float(), labels, reduction="none")
    return log_probability if kind == "loss" else log_probability.exp()


def mean_reward(student: PreTrainedModel, dev: EncodedSplit, kind: str) -> float:
    """The mean of R over the dev texts, for the student's current weights."""
    with torch.no_grad():
        parts = [
            reward_of(compute_logits(student, batch), batch.labels, kind).sum() for batch in _batches(student, dev)
        ]
    return _total(float(torch.stack(parts).sum()) if parts else 0.0) / len(dev)


def text_credits(student: PreTrainedModel, texts: EncodedSplit, dev: EncodedSplit, kind: str) -> tuple[Tensor, float]:
    """The credit ⟨−∇L_i, ∇R⟩ of each text i, (N,), and R.

    The product is over all weights. L_i is the soft cross entropy with the teacher. R is the mean reward over dev.
    ∇R does not include the effect of the mean logits: it is the gradient of R at the logits z_j − z̄ + c, where z̄ is the
    mean over dev and the constant c has the value of z̄.

    The product is the derivative of −L_i along ∇R, computed by central differences. Afterwards the student has exactly
    its old weights.

    :param texts: with the teacher's logits.
    :param dev: the texts of R.
    """
    weights = [weight for weight in student.parameters() if weight.requires_grad]
    gradient, reward = _reward_gradient(student, weights, dev, kind)
    norm = torch.stack([direction.square().sum() for direction in gradient]).sum().sqrt()
    step = DIFFERENCE_STEP / float(norm.clamp(min=1e-12))
    before = [weight.detach().clone() for weight in weights]
    losses = []
    try:
        for sign in (1, -1):
            with torch.no_grad():
                for weight, own, direction in zip(weights, before, gradient, strict=True):
                    torch.add(own, direction, alpha=sign * step, out=weight)
            losses.append(_teacher_losses(student, texts))
    finally:
        with torch.no_grad():
            for weight, own in zip(weights, before, strict=True):
                weight.copy_(own)
    return (losses[1] - losses[0]) / (2 * step), reward


def _reward_gradient(
    student: PreTrainedModel, weights: list[Tensor], dev: EncodedSplit, kind: str
) -> tuple[list[Tensor], float]:
    """∇R as one tensor for each weight, and R."""
    logit_gradients, value = _logit_gradients(student, dev, kind)
    gradient = [torch.zeros_like(weight) for weight in weights]
    for batch in _batches(student, dev):
        # cuDNN's LSTM has no backward pass in evaluation mode.
        with torch.backends.cudnn.flags(enabled=not batch.labels.is_cuda):
            reward = (compute_logits(student, batch).float() * logit_gradients[batch.index]).sum()
            parts = torch.autograd.grad(reward, weights, allow_unused=True)
        for total, part in zip(gradient, parts, strict=True):
            if part is not None:
                total += part
    processes.all_reduce(gradient)
    return gradient, value


def _logit_gradients(student: PreTrainedModel, dev: EncodedSplit, kind: str) -> tuple[Tensor, float]:
    """∂R/∂z (N, C) of each dev text's logits minus its mean over the texts, and R."""
    value = 0.0
    found = torch.zeros(len(dev), student.config.num_labels, device=student.device)
    for batch in _batches(student, dev):
        with torch.no_grad():
            logits = compute_logits(student, batch).float()
        logits.requires_grad_()
        reward = reward_of(logits, batch.labels, kind).sum() / len(dev)
        value += float(reward.detach())
        (found[batch.index],) = torch.autograd.grad(reward, [logits])
    processes.all_reduce([found])
    # The order of the batches, since a sum of floats depends on the order.
    order = [row for rows in cast(Any, make_loader(dev, EVALUATION_BATCH, shuffle=False).batch_sampler) for row in rows]
    return found - found[order].mean(dim=0), _total(value)


def _teacher_losses(student: PreTrainedModel, texts: EncodedSplit) -> Tensor:
    """L_i of each text, (N,), on the CPU."""
    losses = torch.zeros(len(texts))
    with torch.no_grad():
        for batch in _batches(student, texts):
            teacher = batch.teacher_logits.float().softmax(dim=1)
            found = F.cross_entropy(compute_logits(student, batch), teacher, reduction="none")
            losses[batch.index.cpu()] = found.cpu()
    processes.all_reduce([losses])
    return losses


def _batches(student: PreTrainedModel, split: EncodedSplit) -> Iterator[Batch]:
    """The shares of this process in the batches of a split, for a student without dropout.

    The caller computes in full precision: the rounding of bfloat16 is larger than the differences.
    """
    student.eval()
    device = student.device
    for batch in make_loader(split, EVALUATION_BATCH, shuffle=False):
        if (own := share_of(batch)) is not None:
            yield own.to(device)


def _total(value: float) -> float:
    """The sum of the processes' values."""
    return sum(processes.gather(value))
