"""Base class of our own students. They save, load and predict like any Hugging Face sequence classifier."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput


def label_names(labels: list[str]) -> dict[str, dict[int, str] | dict[str, int]]:
    """The labels as arguments of a Hugging Face configuration."""
    return {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}


class Student(PreTrainedModel, ABC):
    """A classifier of texts, or of pairs of texts if `config.pair` is set."""

    base_model_prefix = "student"
    main_input_name = "input_ids"

    def _init_weights(self, module: nn.Module) -> None:
        """Do nothing: the layers keep the initialisation of torch."""

    def embedding_tables(self) -> list[nn.Embedding]:
        """The embeddings. Nothing but their own forward pass reads their weights."""
        return [module for module in self.modules() if isinstance(module, nn.Embedding)]

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        **unused: Any,
    ) -> SequenceClassifierOutput:
        """Logits (B, C) from token ids, mask and, for a pair, token types (B, L).

        :param token_type_ids: 1 on tokens of the second text, 0 on all others and on special tokens.
        :raises ValueError: a student for pairs got no `token_type_ids`.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if self.config.pair and token_type_ids is None:
            raise ValueError("a student for pairs needs token_type_ids: 0 on the first text, 1 on the second")
        logits = self.compute_logits(input_ids, attention_mask, token_type_ids)
        return SequenceClassifierOutput(loss=None if labels is None else F.cross_entropy(logits, labels), logits=logits)

    @abstractmethod
    def compute_logits(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None) -> Tensor:
        """Logits (B, C) of token ids, mask and token types (B, L). For a pair, the token types are never None."""
