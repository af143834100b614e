"""What our own students have in common: they save, load and answer like any Hugging Face sequence classifier."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput


def label_names(labels: list[str]) -> dict[str, dict[int, str] | dict[str, int]]:
    """The labels as a Hugging Face configuration wants them."""
    return {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}


class Student(PreTrainedModel, ABC):
    """A classifier of texts or, where its configuration says `pair`, of pairs of them."""

    base_model_prefix = "student"
    main_input_name = "input_ids"

    def _init_weights(self, module: nn.Module) -> None:
        """Keep the initialisation of torch's own layers."""

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        **unused: Any,
    ) -> SequenceClassifierOutput:
        """Logits (B, C) from token ids, mask and, for a pair, token types (B, L).

        `token_type_ids` is 1 on tokens of the second text, special tokens excluded.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if self.config.pair and token_type_ids is None:
            raise ValueError("a student for pairs needs token_type_ids: 0 on the first text, 1 on the second")
        logits = self.read(input_ids, attention_mask, token_type_ids)
        return SequenceClassifierOutput(loss=None if labels is None else F.cross_entropy(logits, labels), logits=logits)

    @abstractmethod
    def read(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None) -> Tensor:
        """Logits (B, C) of token ids, mask and types (B, L); a student for pairs always gets types."""
