"""The convolutional student: a genotype as a Hugging Face model (AdaBERT §3.1).

Embeddings → K cells → read-out. There is one read-out per depth: while the student learns, every depth is matched to a
layer of the teacher; afterwards only the last is computed.

Where this differs from the paper: BatchNorm stands before the ReLU (see operations.py); there are no position
embeddings, for a convolution sees order; and of a pair, both inputs of the first cell see both texts, the second one each
token beside what matches it in the other text, and the read-out compares them (see `Entrance`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PretrainedConfig

from compress.students.base import Student
from compress.students.genotype import NODES, Genotype
from compress.students.operations import Convolution, build_operation


class CnnStudentConfig(PretrainedConfig):
    """Configuration of a `CnnStudent`; `genotype` is `Genotype.model_dump()`."""

    model_type = "pocketbert_cnn"

    def __init__(
        self,
        vocab_size: int = 30522,
        width: int = 128,
        genotype: dict[str, Any] | None = None,
        pair: bool = False,
        pair_inputs: str = "together",  # what checkpoints that do not say it have
        dropout: float = 0.1,
        token_dropout: float = 0.0,
        pad_token_id: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(pad_token_id=pad_token_id, **kwargs)
        self.vocab_size, self.width, self.genotype = vocab_size, width, genotype
        self.pair, self.pair_inputs = pair, pair_inputs
        self.dropout, self.token_dropout = dropout, token_dropout


class Embeddings(nn.Module):
    """Token ids → (B, D, L), zero where the mask is; whole tokens are dropped while training."""

    def __init__(self, vocab_size: int, width: int, dropout: float, token_dropout: float) -> None:
        super().__init__()
        self.table = nn.Embedding(vocab_size, width)
        self.dropout = nn.Dropout(dropout)
        self.token_dropout = token_dropout

    def forward(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        """Token ids (B, L) and mask (B, 1, L) → (B, D, L)."""
        x = self.dropout(self.table(input_ids)).transpose(1, 2)
        if self.training and self.token_dropout:
            mask = mask * (torch.rand_like(mask) >= self.token_dropout)
        return x * mask


class Cell(nn.Module):
    """A cell of the derived network: each inner node sums its operations, the output is a weighted sum of the nodes."""

    def __init__(self, genotype: Genotype, width: int) -> None:
        super().__init__()
        self.wiring = [(node, edge.source) for node, edge in genotype.edges]
        self.operations = nn.ModuleList(build_operation(edge.operation, width) for _, edge in genotype.edges)
        self.node_weights = nn.Parameter(torch.zeros(NODES))

    def forward(self, first: Tensor, second: Tensor, mask: Tensor) -> Tensor:
        """Two inputs (B, D, L) and the mask (B, 1, L) → (B, D, L)."""
        states = [first, second]
        for node in range(NODES):
            entering = [
                op(states[source], mask)
                for op, (n, source) in zip(self.operations, self.wiring, strict=True)
                if n == node
            ]
            states.append(sum(entering[1:], entering[0]) * mask)
        return weighted_sum(states[2:], self.node_weights)


class ReadOut(nn.Module):
    """Logits at one depth: mean and maximum of every state so far, softmax-weighted sum, dropout, linear.

    The maximum beside the paper's mean keeps the one decisive phrase of a long text; the paper's tanh would flatten it. For a pair, the pooled
    vectors u, v of the two texts enter as [u, v, |u − v|, u·v].
    """

    def __init__(self, states: int, width: int, num_labels: int, pair: bool, dropout: float) -> None:
        super().__init__()
        self.state_weights = nn.Parameter(torch.zeros(states))
        self.pair = pair
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(2 * width * (4 if pair else 1), num_labels)

    def forward(self, pooled: Sequence[Tensor]) -> Tensor:
        """Pooled states, each (B, T, 2·D) with T texts → logits (B, C)."""
        x = weighted_sum(pooled, self.state_weights)
        if self.pair:
            u, v = x[:, 0], x[:, 1]
            x = torch.cat([u, v, (u - v).abs(), u * v], dim=-1)
        else:
            x = x[:, 0]
        return self.classifier(self.dropout(x))


def weighted_sum(states: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Softmax-weighted sum of equally shaped tensors; `weights` holds at least as many logits."""
    shares = F.softmax(weights[: len(states)], dim=0)
    total = states[0] * shares[0]
    for state, share in zip(states[1:], shares[1:], strict=False):
        total = total + state * share
    return total


def pool(x: Tensor, text_masks: Sequence[Tensor]) -> Tensor:
    """Mean and maximum over each text of states (B, D, L) that are zero off the mask: (B, T, 2·D).

    A text without tokens pools to zero.
    """
    pooled = []
    for mask in text_masks:
        kept = x if len(text_masks) == 1 else x * mask
        mean = kept.sum(dim=2) / mask.sum(dim=2).clamp(min=1)
        # Clamped at zero, the value of masked positions, so that padding never changes the maximum.
        pooled.append(torch.cat([mean, kept.amax(dim=2).clamp(min=0)], dim=1))
    return torch.stack(pooled, dim=1)


def masks_of(
    attention_mask: Tensor, token_type_ids: Tensor | None, pair: bool, dtype: torch.dtype
) -> tuple[Tensor, list[Tensor]]:
    """The mask of real tokens and one mask per text, each (B, 1, L)."""
    mask = attention_mask.unsqueeze(1).to(dtype)
    if not pair:
        return mask, [mask]
    assert token_type_ids is not None, "a pair has token types"
    second = mask * token_type_ids.unsqueeze(1).to(dtype)
    return mask, [mask - second, second]


@dataclass(frozen=True)
class Entry:
    """What the first cell gets: its two inputs (B, D, L) and their mask (B, 1, L); and what the read-out gets of them."""

    first: Tensor
    second: Tensor
    mask: Tensor
    state: Tensor  # (B, D, L)
    texts: Sequence[Tensor]  # a mask (B, 1, L) for each text that is read out apart


class Entrance(nn.Module):
    """From embedded texts to the first cell's two inputs, which for a single text are the same.

    Of a pair, `inputs` says what they are. "aligned": the embedded texts, and each of their tokens beside what matches it in
    the other text, so that a cell sees which words have a counterpart. "together": both are the embedded texts. "streams":
    one text on each, as in the paper; the two begin at the same position, so that the cell's sums bring them together, and
    are read out as one.
    """

    def __init__(self, width: int, pair: bool, inputs: str) -> None:
        super().__init__()
        self.streams = pair and inputs == "streams"
        self.alignment = Alignment(width) if pair and inputs == "aligned" else None

    def forward(self, embedded: Tensor, mask: Tensor, texts: Sequence[Tensor]) -> Entry:
        """Of embedded texts (B, D, L), their mask and a mask for each text, (B, 1, L)."""
        if self.streams:
            return two_streams(embedded, mask, texts)
        second = embedded if self.alignment is None else self.alignment(embedded, mask, texts)
        return Entry(embedded, second, mask, embedded, texts)


class Alignment(nn.Module):
    """Each token compared with its match in the other text (Parikh et al. 2016, §3.1-3.2, with cosines for scores).

    The match is the average of the other text's tokens by softmax(sharpness · cosine); token, match and their product
    go through a convolution of kernel one.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.log_sharpness = nn.Parameter(torch.tensor(2.0))
        self.compare = Convolution(width, 1, 1, inputs=3 * width)

    def forward(self, x: Tensor, mask: Tensor, texts: Sequence[Tensor]) -> Tensor:
        """Embedded texts (B, D, L) and masks (B, 1, L) → (B, D, L), zero off the mask."""
        match = self.match(x, texts)
        return self.compare(torch.cat([x, match, x * match], dim=1), mask) * mask

    def match(self, x: Tensor, texts: Sequence[Tensor]) -> Tensor:
        """For each token the other text's average, (B, D, L); zero where there is no other text."""
        first, second = texts
        direction = x / x.norm(dim=1, keepdim=True).clamp(min=1e-6)
        cosine = direction.transpose(1, 2) @ direction  # (B, L, L)
        across = first.transpose(1, 2) * second + second.transpose(1, 2) * first  # one where the texts differ
        scores = cosine.float() * self.log_sharpness.exp() - (1 - across) * 1e4
        shares = torch.softmax(scores, dim=2) * across  # rows without another text become zero
        return x @ shares.transpose(1, 2).to(x.dtype)


def two_streams(embedded: Tensor, mask: Tensor, texts: Sequence[Tensor]) -> Entry:
    """See `Entrance`."""
    first, second = texts
    start = second.argmax(dim=2, keepdim=True)  # (B, 1, 1)
    index = start + torch.arange(mask.shape[2], device=mask.device)  # (B, 1, L)
    there = (index < mask.shape[2]).to(mask.dtype)
    index = index.clamp(max=mask.shape[2] - 1)
    moved = (embedded * second).gather(2, index.expand_as(embedded)) * there
    either = torch.maximum(first, second.gather(2, index) * there)
    stays = embedded * first
    return Entry(stays, moved, either, stays + moved, [either])


class CnnStudent(Student):
    """A searched convolutional classifier that saves and loads like any other Hugging Face model."""

    config_class = CnnStudentConfig

    def __init__(self, config: CnnStudentConfig) -> None:
        super().__init__(config)
        genotype = Genotype.model_validate(config.genotype)
        self.embeddings = Embeddings(config.vocab_size, config.width, config.dropout, config.token_dropout)
        self.entrance = Entrance(config.width, config.pair, config.pair_inputs)
        self.cells = nn.ModuleList(Cell(genotype, config.width) for _ in range(genotype.cells))
        self.readouts = nn.ModuleList(
            ReadOut(
                depth + 1,
                config.width,
                config.num_labels,
                config.pair and not self.entrance.streams,
                config.dropout,
            )
            for depth in range(1, genotype.cells + 1)
        )
        self.post_init()

    def read(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None) -> Tensor:
        """See `Student.read`."""
        *_, pooled = self._pooled_states(input_ids, attention_mask, token_type_ids)
        return self.readouts[-1](pooled)

    def logits_per_cell(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> list[Tensor]:
        """Logits (B, C) read out after each cell, first to last."""
        states = self._pooled_states(input_ids, attention_mask, token_type_ids)
        return [readout(pooled) for readout, pooled in zip(self.readouts, states, strict=True)]

    def fold(self) -> None:
        """Fold BatchNorm for export. The model then answers as before, but must not be trained further."""
        for module in self.modules():
            if isinstance(module, Convolution):
                module.fold()

    def _pooled_states(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None
    ) -> Iterator[list[Tensor]]:
        """After each cell, the pooled states so far, the embedding's included."""
        mask, texts = masks_of(attention_mask, token_type_ids, self.config.pair, self.embeddings.table.weight.dtype)
        entry = self.entrance(self.embeddings(input_ids, mask), mask, texts)
        before, now = entry.first, entry.second
        pooled = [pool(entry.state, entry.texts)]
        for cell in self.cells:
            before, now = now, cell(before, now, entry.mask)
            pooled.append(pool(now, entry.texts))
            yield list(pooled)
