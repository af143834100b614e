"""The inputs of the first cell: a single text, or a pair of texts in one of three forms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compress.students.operations import Convolution


@dataclass(frozen=True)
class CellInputs:
    """The two inputs of the first cell, and the state that is pooled beside the outputs of the cells."""

    first: Tensor  # (B, D, L)
    second: Tensor  # (B, D, L)
    mask: Tensor  # (B, 1, L), of both inputs
    embedded: Tensor  # (B, D, L), the first pooled state
    text_masks: Sequence[Tensor]  # (B, 1, L) each, one for each text that is pooled separately


class InputLayer(nn.Module):
    """Embedded texts → the two inputs of the first cell. For a single text both inputs are the same.

    For a pair, `pair_inputs` selects one of three forms:

    - "aligned": the first input is both texts; the second is each token compared with its match in the other text. So a
      cell sees which words have a counterpart.
    - "together": both inputs are both texts.
    - "streams": one text on each input, as in the paper. Both start at position 0, so the sums of the cell mix them, and
      they are pooled as one text.

    :param width: channels D of all members of an ensemble together.
    """

    def __init__(self, width: int, pair: bool, pair_inputs: str, members: int = 1) -> None:
        super().__init__()
        self.pair = pair
        self.streams = pair and pair_inputs == "streams"
        self.texts = 2 if pair and not self.streams else 1  # how many are pooled separately
        self.different = 2 if pair and pair_inputs != "together" else 1  # inputs of the first cell
        self.alignment = Alignment(width // members, members) if pair and pair_inputs == "aligned" else None

    def forward(self, embedded: Tensor, mask: Tensor, text_masks: Sequence[Tensor]) -> CellInputs:
        """Embedded texts (B, D, L), their mask and one mask per text, (B, 1, L) each → the first cell's inputs."""
        if self.streams:
            return two_streams(embedded, mask, text_masks)
        second = embedded if self.alignment is None else self.alignment(embedded, mask, text_masks)
        return CellInputs(embedded, second, mask, embedded, text_masks)


class Alignment(nn.Module):
    """Each token compared with its match in the other text (Parikh et al. 2016, §3.1-3.2, with cosines as scores).

    The match is the average of the other text's tokens, weighted by softmax(sharpness · cosine). Token, match and their
    product are concatenated and go through a convolution with kernel 1. Each member of an ensemble aligns its own channels.

    :param width: channels of a member.
    """

    def __init__(self, width: int, members: int = 1) -> None:
        super().__init__()
        self.width, self.members = width, members
        self.log_sharpness = nn.Parameter(torch.tensor(2.0))
        self.compare = Convolution(width * members, 1, 1, inputs=3 * width * members, groups=members)

    def forward(self, x: Tensor, mask: Tensor | None, text_masks: Sequence[Tensor]) -> Tensor:
        """Embedded texts (B, D, L) and masks (B, 1, L) → (B, D, L), zero where the mask is zero. No mask: no padding."""
        if self.members == 1:
            inputs = [x, self.match(x, text_masks)]
        else:
            # With the members in the batch, each is aligned as a student of its own.
            of_members = x.reshape(-1, self.width, x.shape[2])  # (B·M, D / M, L)
            masks = [text.repeat_interleave(self.members, dim=0) for text in text_masks]
            inputs = [of_members, self.match(of_members, masks)]
        token, match = inputs
        compared = torch.cat([token, match, token * match], dim=1)  # (B·M, 3·D / M, L)
        # (B, 3·D, L) → (B, D, L)
        found = self.compare(compared.reshape(-1, 3 * self.width * self.members, x.shape[2]), mask)
        return found if mask is None else found * mask

    def match(self, x: Tensor, text_masks: Sequence[Tensor]) -> Tensor:
        """For each token the weighted average of the other text: (B, D, L). Zero where there is no other text."""
        first, second = text_masks
        direction = x / x.norm(dim=1, keepdim=True).clamp(min=1e-6)
        cosine = direction.transpose(1, 2) @ direction  # (B, L, L)
        across = first.transpose(1, 2) * second + second.transpose(1, 2) * first  # (B, L, L), 1 between the two texts
        scores = cosine.float() * self.log_sharpness.exp() - (1 - across) * 1e4
        shares = torch.softmax(scores, dim=2) * across  # a row without another text becomes zero
        return x @ shares.transpose(1, 2).to(x.dtype)  # (B, D, L)


def two_streams(embedded: Tensor, mask: Tensor, text_masks: Sequence[Tensor]) -> CellInputs:
    """One text on each input. The second text is moved to position 0; see `InputLayer`."""
    first, second = text_masks
    start = second.argmax(dim=2, keepdim=True)  # (B, 1, 1), position of the second text
    index = start + torch.arange(mask.shape[2], device=mask.device)  # (B, 1, L)
    inside = (index < mask.shape[2]).to(mask.dtype)
    index = index.clamp(max=mask.shape[2] - 1)
    moved = (embedded * second).gather(2, index.expand_as(embedded)) * inside  # (B, D, L)
    either = torch.maximum(first, second.gather(2, index) * inside)  # (B, 1, L)
    stays = embedded * first
    return CellInputs(stays, moved, either, stays + moved, [either])


def split_mask(
    attention_mask: Tensor, token_type_ids: Tensor | None, pair: bool, dtype: torch.dtype
) -> tuple[Tensor, list[Tensor]]:
    """The mask of all real tokens and one mask per text, (B, 1, L) each, from mask and token types (B, L)."""
    mask = attention_mask.unsqueeze(1).to(dtype)  # (B, 1, L)
    if not pair:
        return mask, [mask]
    assert token_type_ids is not None, "a pair has token types"
    second = mask * token_type_ids.unsqueeze(1).to(dtype)
    return mask, [mask - second, second]
