"""The one-layer bidirectional LSTM of Tang et al. (arXiv 1903.12136, §3.1).

Embeddings → BiLSTM → last state of each direction → linear layer with ReLU → linear layer. For a pair, each text goes
through the BiLSTM alone, and the two vectors are concatenated as [u, v, u·v, |u − v|].

Difference from the paper: the embeddings are projected from the teacher's and not word2vec, because teacher and student
use the same tokenizer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PretrainedConfig

from compress.students.base import Student


class BiLstmConfig(PretrainedConfig):
    """Configuration of a `BiLstmStudent`."""

    model_type = "pocketbert_bilstm"

    def __init__(
        self,
        vocab_size: int = 30522,
        width: int = 256,
        hidden: int = 150,
        pair: bool = False,
        dropout: float = 0.2,
        pad_token_id: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(pad_token_id=pad_token_id, **kwargs)
        self.vocab_size, self.width, self.hidden, self.pair, self.dropout = vocab_size, width, hidden, pair, dropout


class BiLstmStudent(Student):
    """A BiLSTM classifier. It saves and loads like any other Hugging Face model."""

    config_class = BiLstmConfig

    def __init__(self, config: BiLstmConfig) -> None:
        super().__init__(config)
        self.embeddings = nn.Embedding(config.vocab_size, config.width)
        # Two LSTMs and not one bidirectional LSTM: the second gets each text reversed within its own length. Padding
        # then comes last for both, so it never changes the last state of the text.
        self.forwards = nn.LSTM(config.width, config.hidden, batch_first=True)
        self.backwards = nn.LSTM(config.width, config.hidden, batch_first=True)
        self.dropout = nn.Dropout(config.dropout)
        features = 2 * config.hidden * (4 if config.pair else 1)
        self.hidden = nn.Linear(features, 200)  # 200 units, as in the paper (§4.4)
        self.classifier = nn.Linear(200, config.num_labels)
        self.post_init()

    def compute_logits(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None) -> Tensor:
        """See `Student.compute_logits`."""
        embedded = self.dropout(self.embeddings(input_ids))  # (B, L, D)
        lengths = attention_mask.sum(dim=1)
        if self.config.pair:
            assert token_type_ids is not None  # checked by `forward`
            second = token_type_ids.sum(dim=1)
            start = token_type_ids.argmax(dim=1)
            # [CLS] a [SEP] b [SEP]: the first text keeps its special tokens, the second starts after the first [SEP].
            first = torch.where(second > 0, start, lengths)
            # Both texts in one call, stacked along the batch: the quantiser needs each LSTM's weights to be used once.
            starts, counts = torch.cat([torch.zeros_like(start), start]), torch.cat([first, second])
            u, v = self._last_states(torch.cat([embedded, embedded]), starts, counts).chunk(2)
            ends = torch.cat([u, v, u * v, (u - v).abs()], dim=-1)
        else:
            ends = self._last_states(embedded, torch.zeros_like(lengths), lengths)
        return self.classifier(self.dropout(F.relu(self.hidden(ends))))

    def _last_states(self, embedded: Tensor, start: Tensor, length: Tensor) -> Tensor:
        """Last state of each direction over positions start … start + length − 1: (B, L, D), (B,), (B,) → (B, 2·H)."""
        positions = torch.arange(embedded.shape[1], device=embedded.device)[None, :]  # (1, L)
        last = (length - 1).clamp(min=0)[:, None]  # (B, 1)
        onward = (start[:, None] + positions.minimum(last)).clamp(max=embedded.shape[1] - 1)
        backward = (start[:, None] + (last - positions).clamp(min=0)).clamp(max=embedded.shape[1] - 1)
        ends = []
        for lstm, order in ((self.forwards, onward), (self.backwards, backward)):
            outputs, _ = lstm(embedded.gather(1, order[:, :, None].expand_as(embedded)))
            ends.append(outputs.gather(1, last[:, :, None].expand(-1, 1, outputs.shape[2]))[:, 0])
        return torch.cat(ends, dim=-1)
