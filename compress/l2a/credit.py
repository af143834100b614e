"""What each text is worth to the student: its own first-order share of the gain that an episode is rewarded for.

An episode's gain is one number for a few dozen decisions, and the optimizer's momentum spreads it over the episodes that
follow; the few hundred episodes of a training do not tell a policy which decisions were good. To first order, though, the gain is
a sum over the texts: a step of rate η on text i raises the reward R on dev by η·⟨−∇L_i, ∇R⟩ (as in Ren et al. 2018, 1803.09050,
eq. 8), and all of a pool's products take one gradient and two forward passes.

Of that gradient, what would make one label likelier for all dev texts alike is taken out. A student leans to one label
now and to another a few steps later, and while it does, every text of the other label seems a good one: between the
two halves of a dev split these credits correlate at +1 or −1, and they change their sign from episode to episode.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from compress.data.batches import Batch, EncodedSplit, make_loader
from compress.training.evaluation import EVALUATION_BATCH, compute_logits

PROBE = (
    1e-2  # how far the weights are moved to measure a slope, in their Euclidean norm (Liu et al. 2019, DARTS, eq. 8)
)


def reward_of(logits: Tensor, labels: Tensor, kind: str) -> Tensor:
    """The reward R of each dev text, (N,): minus its cross entropy in nats, or the probability of its label.

    The mean of the latter is the accuracy to be expected of labels drawn from the student's probabilities; it changes smoothly
    and, unlike the loss, does not rise when a student that is too sure of itself is merely confused.
    """
    log_probability = -F.cross_entropy(logits.float(), labels, reduction="none")
    return log_probability if kind == "loss" else log_probability.exp()


def mean_reward(student: PreTrainedModel, dev: EncodedSplit, kind: str) -> float:
    """R of the student as it stands."""
    with torch.no_grad():
        parts = [
            reward_of(compute_logits(student, batch), batch.labels, kind).sum() for batch in _batches(student, dev)
        ]
    return float(torch.stack(parts).sum()) / len(dev)


def text_credits(student: PreTrainedModel, texts: EncodedSplit, dev: EncodedSplit, kind: str) -> tuple[Tensor, float]:
    """⟨−∇L_i, ∇R⟩ over all weights for each text i, (N,), L_i being the soft cross entropy with the teacher; and R.

    ∇R is the gradient that leaves the mean over dev of each logit out: that of R at z_j − z̄ + c, c being z̄ held constant.

    The product is the slope of −L_i along ∇R, measured by central differences; the student gets its very
    weights back.

    :param texts: with the teacher's `logits` as a target.
    :param dev: the texts that R is the mean over.
    """
    weights = [weight for weight in student.parameters() if weight.requires_grad]
    slope, reward = _reward_slope(student, weights, dev, kind)
    norm = torch.stack([direction.square().sum() for direction in slope]).sum().sqrt()
    step = PROBE / float(norm.clamp(min=1e-12))
    before = [weight.detach().clone() for weight in weights]
    losses = []
    try:
        for sign in (1, -1):
            with torch.no_grad():
                for weight, own, direction in zip(weights, before, slope, strict=True):
                    torch.add(own, direction, alpha=sign * step, out=weight)
            losses.append(_teacher_losses(student, texts))
    finally:
        with torch.no_grad():
            for weight, own in zip(weights, before, strict=True):
                weight.copy_(own)
    return (losses[1] - losses[0]) / (2 * step), reward


def _reward_slope(
    student: PreTrainedModel, weights: list[Tensor], dev: EncodedSplit, kind: str
) -> tuple[list[Tensor], float]:
    """∇R, a tensor for each weight, and R."""
    by_logits, value = _slope_by_logits(student, dev, kind)
    slope = [torch.zeros_like(weight) for weight in weights]
    for batch in _batches(student, dev):
        # cuDNN's LSTM has no gradient outside training.
        with torch.backends.cudnn.flags(enabled=not batch.labels.is_cuda):
            reward = (compute_logits(student, batch).float() * by_logits[batch.index]).sum()
            parts = torch.autograd.grad(reward, weights, allow_unused=True)
        for total, part in zip(slope, parts, strict=True):
            if part is not None:
                total += part
    return slope, value


def _slope_by_logits(student: PreTrainedModel, dev: EncodedSplit, kind: str) -> tuple[Tensor, float]:
    """∂R/∂z (N, C) of each dev text's logits, less its mean over the texts; and R."""
    value = 0.0
    slopes: list[Tensor] = []
    rows: list[Tensor] = []
    for batch in _batches(student, dev):
        with torch.no_grad():
            logits = compute_logits(student, batch).float()
        logits.requires_grad_()
        reward = reward_of(logits, batch.labels, kind).sum() / len(dev)
        value += float(reward.detach())
        slopes += torch.autograd.grad(reward, [logits])
        rows.append(batch.index)
    found = torch.cat(slopes)
    found -= found.mean(dim=0)
    ordered = torch.empty_like(found)
    ordered[torch.cat(rows)] = found
    return ordered, value


def _teacher_losses(student: PreTrainedModel, texts: EncodedSplit) -> Tensor:
    """L of each text, (N,), on the CPU."""
    losses = torch.zeros(len(texts))
    with torch.no_grad():
        for batch in _batches(student, texts):
            teacher = batch.teacher_logits.float().softmax(dim=1)
            found = F.cross_entropy(compute_logits(student, batch), teacher, reduction="none")
            losses[batch.index.cpu()] = found.cpu()
    return losses


def _batches(student: PreTrainedModel, split: EncodedSplit) -> Iterator[Batch]:
    """For a student without dropout and in full precision: in bfloat16 the differences would drown."""
    student.eval()
    device = student.device
    for batch in make_loader(split, EVALUATION_BATCH, shuffle=False):
        yield batch.to(device)
