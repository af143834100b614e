"""Turns texts into token ids. Training, calibration, measuring and serving all use this module. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Encoding, Tokenizer

from compress.runtime.errors import UserError
from compress.runtime.wordpiece import IntArray, WordPiece, nanotoken_version


@dataclass(frozen=True)
class Encoded:
    """The token ids of one text or pair, without padding. All arrays have shape (L,)."""

    input_ids: IntArray
    type_ids: IntArray  # as the tokenizer gives them: the teacher's token_type_ids
    segments: IntArray  # 1 on tokens of the second text, 0 elsewhere: the student's token_type_ids
    truncated: bool = False  # whether the text had more tokens than `max_length`

    def __len__(self) -> int:
        return len(self.input_ids)


class TextEncoder:
    """The tokenizer of a `tokenizer.json`. It truncates to `max_length` tokens and does not pad.

    :param tokenizer: the file, or the tokenizer itself, which is copied.
    :param pad_token_id: the token that fills up the shorter texts of a batch.
    :param nanotoken: the version of nanotoken that is known to give the same ids. Where this version is installed it is used,
        because it is much faster. None: `tokenizers` is used.
    :raises UserError: the file is missing or holds no tokenizer.
    """

    def __init__(
        self, tokenizer: Path | Tokenizer, max_length: int, pad_token_id: int = 0, *, nanotoken: str | None = None
    ) -> None:
        try:
            self.tokenizer = (
                Tokenizer.from_str(tokenizer.to_str())
                if isinstance(tokenizer, Tokenizer)
                else Tokenizer.from_file(str(tokenizer))
            )
        except Exception as error:  # the library raises bare Exception
            raise UserError(f"{tokenizer}: not a tokenizer.json ({error})") from None
        self.max_length, self.pad_token_id = max_length, pad_token_id
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self._fast = (
            WordPiece(self.tokenizer, max_length)
            if nanotoken is not None and nanotoken == nanotoken_version()
            else None
        )
        self.tokenizer.enable_truncation(max_length)

    @property
    def library(self) -> str:
        """The library that encodes texts: "nanotoken" or "tokenizers"."""
        return "tokenizers" if self._fast is None else "nanotoken"

    def encode(self, texts: Sequence[str], texts_b: Sequence[str] | None = None) -> list[Encoded]:
        """Encode single texts, or pairs if `texts_b` is given. Both lists must have the same length."""
        if texts_b is None:
            # Without offsets and without a second text: the fastest call of the tokenizer.
            zeros = np.zeros(self.max_length, np.int64)
            found = (
                ((np.asarray(e.ids, np.int64), self._is_cut(e)) for e in self.tokenizer.encode_batch_fast(list(texts)))
                if self._fast is None
                else self._fast.singles(texts)
            )
            return [Encoded(ids, zeros[: len(ids)], zeros[: len(ids)], cut) for ids, cut in found]
        if self._fast is not None:
            return [Encoded(*parts) for parts in self._fast.pairs(texts, texts_b)]
        encodings = self.tokenizer.encode_batch_fast(list(zip(texts, texts_b, strict=True)))
        return [
            Encoded(
                np.asarray(e.ids, np.int64),
                np.asarray(e.type_ids, np.int64),
                np.asarray([part == 1 for part in e.sequence_ids], np.int64),
                self._is_cut(e),
            )
            for e in encodings
        ]

    @property
    def special_tokens(self) -> int:
        """How many tokens the tokenizer adds to every single text, such as [CLS] and [SEP]. A pair has at least as many."""
        return self.tokenizer.num_special_tokens_to_add(False)

    def _is_cut(self, encoding: Encoding) -> bool:
        # A look at the length first: `overflowing` makes objects for all that was cut off.
        return len(encoding) >= self.max_length and bool(encoding.overflowing)


def pad_batch(encoded: Sequence[Encoded], pad_token_id: int) -> dict[str, IntArray]:
    """Pad to the longest text of the batch.

    :returns: `input_ids`, `attention_mask`, `type_ids` and `segments`, each of shape (B, L).
    """
    length = max(len(e) for e in encoded)
    shape = (len(encoded), length)
    ids, types, segments = np.full(shape, pad_token_id, np.int64), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    mask = np.zeros(shape, np.int64)
    for row, e in enumerate(encoded):
        size = len(e)
        ids[row, :size], mask[row, :size] = e.input_ids, 1
        types[row, :size], segments[row, :size] = e.type_ids, e.segments
    return {"input_ids": ids, "attention_mask": mask, "type_ids": types, "segments": segments}
