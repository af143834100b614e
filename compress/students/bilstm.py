"""The one-layer bidirectional LSTM of Tang et al. (arXiv 1903.12136, §3.1).

Word embeddings → BiLSTM → the last state of each direction → a rectified layer → linear. Of a pair each text is read by
itself, and the two vectors enter as [u, v, u·v, |u − v|]. Where this differs: the embeddings are the teacher's,
projected, not word2vec's, so that both read the same tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput


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


class BiLstmStudent(PreTrainedModel):
    """A BiLSTM classifier that saves and loads like any other Hugging Face model."""

    config_class = BiLstmConfig
    base_model_prefix = "student"
    main_input_name = "input_ids"

    def __init__(self, config: BiLstmConfig) -> None:
        super().__init__(config)
        self.embeddings = nn.Embedding(config.vocab_size, config.width)
        # Two LSTMs and not one bidirectional: the second reads each text reversed within its own length, so that
        # padding, which comes last either way, never reaches the state that is read out.
        self.forwards = nn.LSTM(config.width, config.hidden, batch_first=True)
        self.backwards = nn.LSTM(config.width, config.hidden, batch_first=True)
        self.dropout = nn.Dropout(config.dropout)
        read = 2 * config.hidden * (4 if config.pair else 1)
        self.hidden = nn.Linear(read, 200)  # 200 units, as in the paper (§4.4)
        self.classifier = nn.Linear(200, config.num_labels)
        self.post_init()

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
        embedded = self.dropout(self.embeddings(input_ids))  # (B, L, D)
        lengths = attention_mask.sum(dim=1)
        if self.config.pair:
            if token_type_ids is None:
                raise ValueError("a student for pairs needs token_type_ids: 0 on the first text, 1 on the second")
            second = token_type_ids.sum(dim=1)
            start = token_type_ids.argmax(dim=1)
            # [CLS] a [SEP] b [SEP]: the first text keeps its special tokens, the second starts behind the first [SEP].
            first = torch.where(second > 0, start, lengths)
            # Both texts in one call, stacked: a quantiser wants each LSTM's weights to have one user.
            starts, ends = torch.cat([torch.zeros_like(start), start]), torch.cat([first, second])
            u, v = self._read(torch.cat([embedded, embedded]), starts, ends).chunk(2)
            read = torch.cat([u, v, u * v, (u - v).abs()], dim=-1)
        else:
            read = self._read(embedded, torch.zeros_like(lengths), lengths)
        logits = self.classifier(self.dropout(F.relu(self.hidden(read))))
        return SequenceClassifierOutput(loss=None if labels is None else F.cross_entropy(logits, labels), logits=logits)

    def _read(self, embedded: Tensor, start: Tensor, length: Tensor) -> Tensor:
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
