"""Embeddings, pooling and read-out of a network of cells."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Embeddings(nn.Module):
    """Token ids → (B, D, L), zero where the mask is zero. In training, whole tokens are dropped."""

    def __init__(self, vocab_size: int, width: int, dropout: float, token_dropout: float) -> None:
        super().__init__()
        self.table = nn.Embedding(vocab_size, width)
        self.dropout = nn.Dropout(dropout)
        self.token_dropout = token_dropout

    def forward(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        """Token ids (B, L) and mask (B, 1, L) → (B, D, L)."""
        x = self.dropout(self.table(input_ids)).transpose(1, 2)  # (B, D, L)
        if self.training and self.token_dropout:
            mask = mask * (torch.rand_like(mask) >= self.token_dropout)
        return x * mask


class ReadOut(nn.Module):
    """Logits after one cell: softmax-weighted sum of all pooled states so far, dropout, linear layer.

    A state is pooled by mean and maximum; see `pool`. The paper (AdaBERT §3.1) has the mean and a tanh. The maximum is
    added because it keeps the one decisive phrase of a long text; the tanh is left out because it would flatten that
    phrase.

    The logits of an ensemble are the mean of its members' logits. Each member reads its own channels, so the mean is one
    linear layer on all channels.

    :param states: number of pooled states.
    :param width: channels D of all members together.
    :param texts: 1, or 2 for a pair whose texts are pooled separately. Their vectors u and v enter the linear layer as
        [u, v, |u − v|, u·v].
    """

    def __init__(self, states: int, width: int, num_labels: int, texts: int, dropout: float, members: int = 1) -> None:
        super().__init__()
        self.state_weights = nn.Parameter(torch.zeros(states))
        self.texts, self.members = texts, members
        self.folded = False
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(2 * width * (4 if texts == 2 else 1), num_labels)
        if members > 1:  # each member starts as a student of its own, whose layer has fewer inputs
            bound = math.sqrt(members / self.classifier.in_features)
            nn.init.uniform_(self.classifier.weight, -bound, bound)

    def forward(self, pooled: Sequence[Tensor]) -> Tensor:
        """Pooled states, each (B, T, 2·D) with T texts → logits (B, C)."""
        if self.folded and self.texts == 1:
            return self.classifier(torch.cat([state[:, 0] for state in pooled], dim=1))  # (B, S·2·D) of S states
        features = self._features(pooled)
        return self.classifier(features / self.members if self.members > 1 and not self.folded else features)

    def fold(self) -> None:
        """Fold the number of members, and for a single text the state weights too, into the linear layer, for export.

        For a single text the layer then takes all pooled states side by side. The features of a pair are not linear in the states.
        """
        weight = self.classifier.weight.detach() / self.members
        if self.texts == 1:
            shares = F.softmax(self.state_weights.detach(), dim=0)
            weight = torch.cat([weight * share for share in shares], dim=1)
        self.classifier.weight = nn.Parameter(weight)
        self.folded = True

    def member_logits(self, pooled: Sequence[Tensor]) -> Tensor:
        """Pooled states → logits of each of M members (B, M, C), for training. Their mean is what `forward` gives."""
        x = self._features(pooled)
        x = x.view(len(x), -1, self.members, self._member_width)
        weight = self.classifier.weight.view(self.classifier.out_features, -1, self.members, self._member_width)
        return torch.einsum("bkmd,ckmd->bmc", x, weight) + self.classifier.bias

    @property
    def _member_width(self) -> int:
        return self.classifier.in_features // (2 * self.members * (4 if self.texts == 2 else 1))

    def _features(self, pooled: Sequence[Tensor]) -> Tensor:
        """Pooled states → the inputs of the linear layer, (B, 2·D) or (B, 8·D); the channels are the last axis."""
        x = weighted_sum(pooled, self.state_weights)  # (B, T, 2·D)
        if self.texts == 2:
            u, v = x[:, 0], x[:, 1]
            x = torch.cat([u, v, (u - v).abs(), u * v], dim=-1)  # (B, 8·D)
        else:
            x = x[:, 0]  # (B, 2·D)
        return self.dropout(x)


def weighted_sum(states: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Softmax-weighted sum of tensors of the same shape. `weights` holds one logit for each of them, or more."""
    shares = F.softmax(weights[: len(states)], dim=0)
    total = states[0] * shares[0]
    for state, share in zip(states[1:], shares[1:], strict=False):
        total = total + state * share
    return total


def pool(x: Tensor, text_masks: Sequence[Tensor]) -> Tensor:
    """Mean and maximum of the states (B, D, L) over each of T texts: (B, T, 2·D).

    The states must be zero where no text is. A text without tokens is pooled to zero.

    :param text_masks: one mask (B, 1, L) per text.
    """
    pooled = []
    for mask in text_masks:
        kept = x if len(text_masks) == 1 else x * mask
        mean = kept.sum(dim=2) / mask.sum(dim=2).clamp(min=1)  # (B, D)
        # Masked positions are zero. Clamping the maximum at zero gives the same result with and without padding.
        pooled.append(torch.cat([mean, kept.amax(dim=2).clamp(min=0)], dim=1))  # (B, 2·D)
    return torch.stack(pooled, dim=1)
