"""What a text means in its domain, to a meta-teacher or its student (arXiv 2012.01266, §3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compress.objectives.expertise import UNKNOWN_DOMAIN


class DomainRepresentation(nn.Module):
    """h = tanh(W(E[k] + f(x))): what a text means in its domain (§3.2).

    An unknown domain has the mean of the known ones' embeddings.
    """

    def __init__(self, domains: int, width: int) -> None:
        super().__init__()
        self.domain = nn.Embedding(domains, width)
        nn.init.normal_(self.domain.weight, std=0.02)  # of the size of BERT's own embeddings
        self.dense = nn.Linear(width, width)

    def forward(self, features: Tensor, domains: Tensor) -> Tensor:
        """(B, d) features and (B,) numbers of their domains → (B, d)."""
        unknown = (domains == UNKNOWN_DOMAIN)[:, None]
        embedded = torch.where(unknown, self.domain.weight.mean(dim=0), self.domain(domains.clamp(min=0)))
        return torch.tanh(self.dense(embedded + features))
