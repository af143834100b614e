"""Any classifier, teacher or student, over our batches: its inputs, its logits, its accuracy."""

from __future__ import annotations

import inspect

from torch import Tensor
from transformers import PreTrainedModel

from compress.data.batches import Batch, EncodedSplit, make_loader
from compress.training.loop import make_accelerator, predict

EVALUATION_BATCH = 64


def model_inputs(model: PreTrainedModel, batch: Batch) -> dict[str, Tensor]:
    """The inputs this kind of model takes, out of a batch.

    Our own students call the second text's tokens type 1, special tokens excluded; a Hugging Face model has the types
    that its tokenizer gives.
    """
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    if takes_segments(model):
        inputs["token_type_ids"] = batch["segments"]
    elif takes_types(model):
        inputs["token_type_ids"] = batch["type_ids"]
    return inputs


def takes_segments(model: PreTrainedModel) -> bool:
    """Whether the model is one of our own students."""
    return str(model.config.model_type).startswith("pocketbert_")


def takes_types(model: PreTrainedModel) -> bool:
    """Whether a Hugging Face model tells the two texts of a pair apart by their token types."""
    known = "token_type_ids" in inspect.signature(type(model).forward).parameters
    return known and getattr(model.config, "type_vocab_size", 0) > 1


def classify(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Logits (B, C) of a sequence classifier."""
    return model(**model_inputs(model, batch)).logits


def accuracy(model: PreTrainedModel, split: EncodedSplit, pad_token_id: int) -> float:
    """Share of the split that the model gets right."""
    return float((predictions(model, split, pad_token_id) == split.labels).float().mean())


def predictions(model: PreTrainedModel, split: EncodedSplit, pad_token_id: int) -> Tensor:
    """The label (N,) that the model gives each example."""
    loader = make_loader(split, EVALUATION_BATCH, pad_token_id, shuffle=False)
    return predict(model, loader, classify, make_accelerator()).argmax(dim=1)
