"""The domain representation of Meta-KD (arXiv 2012.01266, §3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

UNKNOWN_DOMAIN = -1  # the number of a domain that the teacher has not seen


class DomainRepresentation(nn.Module):
    """h = tanh(W(E[k] + f(x))) of a text with features f(x) in domain k (§3.2).

    For an unknown domain, E[k] is the mean of all embeddings.
    """

    def __init__(self, domains: int, width: int) -> None:
        super().__init__()
        self.domain = nn.Embedding(domains, width)
        nn.init.normal_(self.domain.weight, std=0.02)  # as BERT's own embeddings
        self.dense = nn.Linear(width, width)

    def forward(self, features: Tensor, domains: Tensor) -> Tensor:
        """Features (B, d) and the numbers of their domains (B,) → (B, d)."""
        unknown = (domains == UNKNOWN_DOMAIN)[:, None]
        embedded = torch.where(unknown, self.domain.weight.mean(dim=0), self.domain(domains.clamp(min=0)))
        return torch.tanh(self.dense(embedded + features))
