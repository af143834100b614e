"""The Hugging Face configuration of a convolutional student. A supernet is built from it too."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig


class CnnStudentConfig(PretrainedConfig):
    """Sizes and options of a `CnnStudent`.

    :param vocab_size: number of token ids V.
    :param width: channels of the embeddings and of every cell, for each member.
    :param members: number of networks of equal shape whose logits are averaged. They are computed as one network of
        `channels` channels with grouped convolutions.
    :param genotype: `Genotype.dump()`; a supernet has none.
    :param pair: the student reads pairs of texts.
    :param pair_inputs: the two inputs of the first cell for a pair; see `InputLayer`.
    :param halvings: cells, from the first, that see half of the positions of the one before; see `Downsampling`.
    :param token_dropout: share of whole tokens that are set to zero in training.
    """

    model_type = "pocketbert_cnn"

    def __init__(
        self,
        vocab_size: int = 30522,
        width: int = 128,
        genotype: dict[str, Any] | None = None,
        pair: bool = False,
        pair_inputs: str = "together",  # old checkpoints have no such field and were built this way
        dropout: float = 0.1,
        token_dropout: float = 0.0,
        members: int = 1,
        halvings: int = 0,
        pad_token_id: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(pad_token_id=pad_token_id, **kwargs)
        self.vocab_size, self.width, self.genotype = vocab_size, width, genotype
        self.pair, self.pair_inputs = pair, pair_inputs
        self.dropout, self.token_dropout, self.members, self.halvings = dropout, token_dropout, members, halvings

    @property
    def channels(self) -> int:
        """Channels D of all members together."""
        return self.width * self.members
