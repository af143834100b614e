"""The layers that compute a classifier's logits."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel

from compress.runtime.errors import UserError


def logit_layers(model: nn.Module) -> list[nn.Linear]:
    """The linear layers with one output for each label, in the order of the model: probes first, its own logits last.

    A module without a configuration has no labels, and none of them.
    """
    labels = getattr(getattr(model, "config", None), "num_labels", None)
    return [module for module in model.modules() if isinstance(module, nn.Linear) and module.out_features == labels]


def output_layer(model: PreTrainedModel, needed_by: str) -> nn.Linear:
    """The linear layer of the model's own logits. Its input is the representation of a text.

    :param needed_by: the setting that needs it, for the message.
    :raises UserError: the model has none.
    """
    layers = logit_layers(model)
    if not layers:
        raise UserError(
            f"{needed_by} needs a linear layer for the logits, and {type(model).__name__} has none; give a BERT, RoBERTa, DistilBERT or "
            "another encoder of this kind"
        )
    return layers[-1]
