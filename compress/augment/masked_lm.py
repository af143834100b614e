"""A masked language model with any BERT-like encoder, and its predictions at masked positions.

The projection onto the vocabulary is computed at masked positions only. At all positions it would cost more than the
encoder on a CPU.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForMaskedLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from compress.augment.pieces import Kind, Vocabulary, read_vocabulary
from compress.data.batches import Batch, EncodedSplit
from compress.data.corpus import UNLABELLED
from compress.data.files import write_json
from compress.runtime.encode import Encoded, TextEncoder
from compress.runtime.errors import UserError
from compress.training.accelerator import make_accelerator
from compress.training.evaluation import takes_types

BATCH = 32  # queries of one forward pass


@dataclass(frozen=True)
class Query:
    """A text with masked tokens, and the tokens that are allowed there."""

    encoded: Encoded  # L tokens, with the mask token at `positions`
    positions: list[int]  # (P,)
    kinds: list[Kind]  # (P,) the kind of token allowed at each position
    banned: list[int | None]  # (P,) one token id that is not allowed at each position, or None


@dataclass
class MaskedLM:
    """A trained masked language model, in evaluation mode on its device, with its tokenizer.

    `num_labels` is the number of label embeddings of a label-conditional model. They replace the token type embeddings.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    encoder: TextEncoder
    num_labels: int | None = None

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The entries that may be predicted at a masked position."""
        return read_vocabulary(self.encoder.tokenizer)

    @property
    def mask_token_id(self) -> int:
        """The id of the mask token."""
        return self.tokenizer.mask_token_id

    def save(self, directory: Path) -> None:
        """Write the checkpoint, the tokenizer and the settings that `load` reads."""
        self.model.save_pretrained(directory)
        self.tokenizer.save_pretrained(directory)
        state = {"max_length": self.encoder.max_length, "num_labels": self.num_labels}
        write_json(directory / "masked_lm.json", state)

    @classmethod
    def load(cls, directory: Path) -> MaskedLM:
        """Load what `save` wrote, onto the accelerator's device."""
        state = json.loads((directory / "masked_lm.json").read_text(encoding="utf-8"))
        model = AutoModelForMaskedLM.from_pretrained(directory).to(make_accelerator().device).eval()
        encoder = TextEncoder(directory / "tokenizer.json", state["max_length"])
        return cls(model, AutoTokenizer.from_pretrained(directory), encoder, state["num_labels"])

    def candidates(self, queries: Sequence[Query], count: int) -> list[tuple[Tensor, Tensor]]:
        """For each query, logits and token ids (P, K) of the most probable entries at each position, best first.

        K is `count`, or the size of the vocabulary if that is smaller. Entries that are not allowed have the logit −∞.
        """
        found: list[tuple[Tensor, Tensor]] = [(torch.empty(0), torch.empty(0))] * len(queries)
        for row, logits in self._conditionals(queries):
            values, ids = logits.topk(min(count, logits.shape[1]))
            found[row] = (values.cpu(), ids.cpu())
        return found

    def log_probabilities(self, queries: Sequence[Query]) -> list[Tensor]:
        """For each query, log p (P, V) of every entry at each position; −∞ where an entry is not allowed."""
        found = [torch.empty(0)] * len(queries)
        for row, logits in self._conditionals(queries):
            found[row] = logits.log_softmax(dim=1).cpu()
        return found

    def log_probabilities_of(self, queries: Sequence[Query], tokens: Sequence[int]) -> list[float]:
        """For each query of one position, log p of one entry there.

        It needs less memory than `log_probabilities`, which keeps a row (V,) for each query.
        """
        found = [0.0] * len(queries)
        for row, logits in self._conditionals(queries):
            found[row] = float(logits.log_softmax(dim=1)[0, tokens[row]])
        return found

    def _conditionals(self, queries: Sequence[Query]) -> Iterator[tuple[int, Tensor]]:
        """The index of each query and its logits (P, V). Queries of similar length share a batch."""
        order = sorted(range(len(queries)), key=lambda i: len(queries[i].encoded))
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            batch = [queries[row] for row in rows]
            sizes = [len(query.positions) for query in batch]
            yield from zip(rows, self._logits(batch).split(sizes), strict=True)

    @torch.inference_mode()
    def _logits(self, queries: Sequence[Query]) -> Tensor:
        device = self.model.device
        texts = [query.encoded for query in queries]
        unlabelled = torch.full((len(texts),), UNLABELLED)
        batch = EncodedSplit(texts, unlabelled, self.tokenizer.pad_token_id).batch(range(len(texts))).to(device)
        places = [(row, position) for row, query in enumerate(queries) for position in query.positions]
        rows, columns = torch.tensor(places, dtype=torch.long, device=device).reshape(-1, 2).unbind(dim=1)
        with make_accelerator().autocast():
            logits = masked_logits(self.model, batch, (rows, columns)).float()  # (M, V)
        kinds = torch.tensor([kind for query in queries for kind in query.kinds], dtype=torch.long)
        wanted = self.vocabulary.kinds[kinds].to(device)  # (M, V)
        # A model may have a few more rows than its tokenizer has entries. The extra rows mean no token.
        logits = logits[:, : wanted.shape[1]].masked_fill(~wanted, -torch.inf)
        banned = [token for query in queries for token in query.banned]
        positions = [position for position, token in enumerate(banned) if token is not None]
        logits[positions, [banned[position] for position in positions]] = -torch.inf
        return logits


def masked_logits(model: PreTrainedModel, batch: Batch, masked: Tensor | tuple[Tensor, Tensor]) -> Tensor:
    """Logits (M, V) of the masked language model at the M positions that `masked` selects from (B, L)."""
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    if takes_types(model):
        inputs["token_type_ids"] = batch.type_ids
    hidden = model.base_model(**inputs).last_hidden_state  # (B, L, D)
    return language_head(model)(hidden[masked])


def language_head(model: PreTrainedModel) -> Callable[[Tensor], Tensor]:
    """The head that computes logits (M, V) from hidden states (M, D), without the encoder.

    :raises UserError: the model is of a kind whose head is not known here.
    """
    if hasattr(model, "cls"):  # BERT, MobileBERT
        return model.cls
    if hasattr(model, "lm_head"):  # MPNet
        return model.lm_head
    if hasattr(model, "generator_lm_head"):  # ELECTRA
        return lambda hidden: model.generator_lm_head(model.generator_predict_labels(hidden))
    if hasattr(model, "vocab_projector"):  # DistilBERT
        return lambda hidden: model.vocab_projector(
            model.vocab_layer_norm(model.activation(model.vocab_transform(hidden)))
        )
    raise UserError(
        f"augmentation.method: there is no masked language model for a {model.config.model_type} encoder; choose spans, eda or sampling"
    )
