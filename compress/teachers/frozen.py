"""The classification head, fitted on the frozen encoder: the first half of LP-FT (Kumar et al., arXiv 2202.10054, §3.3).

With a random head, the first steps of fine-tuning distort the states of the encoder. With many classes they are most of it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.data.batches import Batch, EncodedSplit, make_loader
from compress.objectives.expertise import mean_state
from compress.runtime.errors import UserError
from compress.training.accelerator import make_accelerator
from compress.training.evaluation import EVALUATION_BATCH, model_inputs, predict
from compress.training.logistic import fit_logistic
from compress.training.output_layer import output_layer

Representation = Literal["mean", "cls"]

# A head is fitted on so many texts, or on so many for each class if that is more.
TEXTS, TEXTS_OF_CLASS = 4_000, 100
STRENGTHS = (0.003, 0.03, 0.3)  # C of the logistic regression, the inverse of its regularisation; dev decides
MAX_ITERATIONS = 100
NAMES: dict[Representation, str] = {"mean": "the mean of the last states", "cls": "what the model's own head reads"}


@dataclass(frozen=True)
class FrozenHead:
    """A linear head on a representation of width d by the frozen encoder."""

    representation: Representation
    weight: Tensor  # (C, d)
    bias: Tensor  # (C,)
    accuracy: dict[str, float]  # by split, fractions of 1
    texts: int  # that it was fitted on

    def describe(self) -> dict[str, object]:
        """For the teacher's card."""
        accuracy = {split: round(value, 4) for split, value in self.accuracy.items()}
        return {"representation": self.representation, "accuracy": accuracy, "texts": self.texts}

    def write_to(self, model: PreTrainedModel) -> None:
        """Set the model's last layer. The model must give it this head's representation."""
        layer = _fitted_layer(model)
        with torch.no_grad():
            layer.weight.copy_(self.weight)
            layer.bias.copy_(self.bias)


def fit_heads(
    model: PreTrainedModel, train: EncodedSplit, held_out: dict[str, EncodedSplit], seed: int
) -> dict[Representation, FrozenHead]:
    """A head for each representation, fitted by logistic regression.

    :param model: with its own head, whose last layer plays no part. No weights of it are changed.
    :param train: a sample of the texts is used, see `TEXTS`.
    :param held_out: the splits to measure on; the regularisation is chosen on `dev`.
    :raises UserError: the model's own head is no linear layer on one vector of the text.
    """
    labels = model.config.num_labels
    sample = train.subset(_sample(train.labels.tolist(), sample_size(labels), seed))
    of_sample = _representations(model, sample, "frozen encoder, train")
    states = {split: _representations(model, texts, f"frozen encoder, {split}") for split, texts in held_out.items()}
    heads: dict[Representation, FrozenHead] = {}
    for name, x in of_sample.items():
        measured = {split: (found[name], held_out[split].labels.numpy()) for split, found in states.items()}
        head = fit_logistic(
            (x, sample.labels.numpy()), measured, labels, strengths=STRENGTHS, max_iterations=MAX_ITERATIONS
        )
        weight, bias = torch.from_numpy(head.weight), torch.from_numpy(head.bias)
        heads[name] = FrozenHead(name, weight, bias, head.accuracy, len(x))
    return heads


def sample_size(labels: int) -> int:
    """The number of texts that a head for so many labels is fitted on, if there are as many."""
    return max(TEXTS, TEXTS_OF_CLASS * labels)


def _sample(labels: list[int], count: int, seed: int) -> list[int]:
    """`count` row numbers at random, with at least one of each class."""
    rows = list(range(len(labels)))
    random.Random(seed).shuffle(rows)
    first = {labels[row]: row for row in reversed(rows)}
    others = [row for row in rows if first[labels[row]] != row]
    return sorted([*first.values(), *others[: max(0, count - len(first))]])


def _representations(
    model: PreTrainedModel, texts: EncodedSplit, name: str
) -> dict[Representation, NDArray[np.float32]]:
    """The mean of the last states over real tokens, and the input of the model's last layer, both (N, d)."""
    accelerator = make_accelerator()
    model.to(accelerator.device)
    with recorded_head_input(model) as head_input:

        def forward(model: nn.Module, batch: Batch) -> Tensor:
            out = model(**model_inputs(model, batch), output_hidden_states=True)
            return torch.cat([mean_state(out.hidden_states[-1], batch.attention_mask.float()), head_input().float()], 1)

        both = predict(model, make_loader(texts, EVALUATION_BATCH, shuffle=False), forward, accelerator, name).numpy()
    width = model.config.hidden_size
    return {"mean": both[:, :width], "cls": both[:, width:]}


@contextmanager
def recorded_head_input(model: PreTrainedModel) -> Iterator[Callable[[], Tensor]]:
    """Gives a function that returns what the layer of the logits was given in the last forward pass, (B, d).

    The function raises a `UserError` if that was no vector of each text.

    :raises UserError: the model has no linear layer with a bias for its logits.
    """
    inputs: list[Tensor] = []

    def record(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        inputs[:] = arguments[:1]

    def last() -> Tensor:
        if not inputs or inputs[0].dim() != 2:
            raise UserError(
                f"teacher.model: the head of {type(model).__name__} takes the states of all tokens, not a vector of the text; "
                "give a BERT, RoBERTa, DistilBERT or another encoder of this kind"
            )
        return inputs[0]

    handle = _fitted_layer(model).register_forward_pre_hook(record)
    try:
        yield last
    finally:
        handle.remove()


def _fitted_layer(model: PreTrainedModel) -> nn.Linear:
    """The layer of the logits, which a fitted head has the weights of.

    :raises UserError: the model has none, or one without a bias.
    """
    layer = output_layer(model, "teacher.model: a fitted head")
    if layer.bias is None:
        raise UserError(
            f"teacher.model: a fitted head has a bias, and the linear layer for the logits of {type(model).__name__} has none; give a "
            "BERT, RoBERTa, DistilBERT or another encoder of this kind"
        )
    return layer
