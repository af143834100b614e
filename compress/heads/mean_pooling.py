"""BERT and its kin with a classification head on the mean of their last states, as sentence encoders were trained for.

Each class is one of transformers' with another head: the encoder's weights keep their names, so that it opens any checkpoint
of the encoder. This file is copied into every checkpoint and imports nothing of this project. Where the project is not
imported, `AutoModelForSequenceClassification.from_pretrained(directory, trust_remote_code=True)` reads the copy.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    BertModel,
    BertPreTrainedModel,
    DistilBertConfig,
    DistilBertModel,
    DistilBertPreTrainedModel,
    ElectraConfig,
    ElectraModel,
    ElectraPreTrainedModel,
    MPNetConfig,
    MPNetModel,
    MPNetPreTrainedModel,
    RobertaConfig,
    RobertaModel,
    RobertaPreTrainedModel,
    XLMRobertaConfig,
    XLMRobertaModel,
    XLMRobertaPreTrainedModel,
)
from transformers.modeling_outputs import SequenceClassifierOutput

DROPOUT = 0.1


class MeanPooling:
    """Mean of the last states over real tokens (Reimers & Gurevych, arXiv 1908.10084, §3) → dropout → linear layer.

    A base of the classes below, before the model class of transformers.
    """

    encoder_class: ClassVar[type[nn.Module]]
    encoder_options: ClassVar[dict[str, Any]] = {"add_pooling_layer": False}
    base_model_prefix: str
    config: Any

    def __init__(self, config: Any) -> None:
        super().__init__(config)  # type: ignore[call-arg]
        self.num_labels = config.num_labels
        setattr(self, self.base_model_prefix, self.encoder_class(config, **self.encoder_options))
        self.dropout = nn.Dropout(DROPOUT)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()  # type: ignore[attr-defined]

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        **options: Any,
    ) -> SequenceClassifierOutput:
        """Logits (B, C) from token ids, mask and token types (B, L).

        :param labels: (B,); with them the output has the cross-entropy.
        :param options: for the encoder, for example `output_hidden_states`.
        """
        return self._classify(input_ids, attention_mask, labels, token_type_ids=token_type_ids, **options)

    def _classify(
        self, input_ids: Tensor, attention_mask: Tensor | None, labels: Tensor | None, **options: Any
    ) -> SequenceClassifierOutput:
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        encoder = getattr(self, self.base_model_prefix)
        out = encoder(input_ids=input_ids, attention_mask=attention_mask, **options | {"return_dict": True})
        states = out.last_hidden_state  # (B, L, d)
        mask = attention_mask[:, :, None].to(states.dtype)  # (B, L, 1)
        pooled = (states * mask).sum(dim=1) / mask.sum(dim=1)  # (B, d)
        logits = self.classifier(self.dropout(pooled))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=out.hidden_states, attentions=out.attentions
        )


class _WithoutTokenTypes(MeanPooling):
    """For encoders that do not tell the two texts of a pair apart."""

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        **options: Any,
    ) -> SequenceClassifierOutput:
        """See `MeanPooling.forward`."""
        return self._classify(input_ids, attention_mask, labels, **options)


class BertMeanConfig(BertConfig):
    """Configuration of `BertMeanClassifier`."""

    model_type = "bert_mean"


class BertMeanClassifier(MeanPooling, BertPreTrainedModel):
    """A BERT."""

    config_class = BertMeanConfig
    base_model_prefix = "bert"
    encoder_class = BertModel


class RobertaMeanConfig(RobertaConfig):
    """Configuration of `RobertaMeanClassifier`."""

    model_type = "roberta_mean"


class RobertaMeanClassifier(MeanPooling, RobertaPreTrainedModel):
    """A RoBERTa."""

    config_class = RobertaMeanConfig
    base_model_prefix = "roberta"
    encoder_class = RobertaModel


class XLMRobertaMeanConfig(XLMRobertaConfig):
    """Configuration of `XLMRobertaMeanClassifier`."""

    model_type = "xlm-roberta_mean"


class XLMRobertaMeanClassifier(MeanPooling, XLMRobertaPreTrainedModel):
    """An XLM-RoBERTa."""

    config_class = XLMRobertaMeanConfig
    base_model_prefix = "roberta"
    encoder_class = XLMRobertaModel


class MPNetMeanConfig(MPNetConfig):
    """Configuration of `MPNetMeanClassifier`."""

    model_type = "mpnet_mean"


class MPNetMeanClassifier(_WithoutTokenTypes, MPNetPreTrainedModel):
    """An MPNet."""

    config_class = MPNetMeanConfig
    base_model_prefix = "mpnet"
    encoder_class = MPNetModel


class DistilBertMeanConfig(DistilBertConfig):
    """Configuration of `DistilBertMeanClassifier`."""

    model_type = "distilbert_mean"


class DistilBertMeanClassifier(_WithoutTokenTypes, DistilBertPreTrainedModel):
    """A DistilBERT."""

    config_class = DistilBertMeanConfig
    base_model_prefix = "distilbert"
    encoder_class = DistilBertModel
    encoder_options: ClassVar[dict[str, Any]] = {}


class ElectraMeanConfig(ElectraConfig):
    """Configuration of `ElectraMeanClassifier`."""

    model_type = "electra_mean"


class ElectraMeanClassifier(MeanPooling, ElectraPreTrainedModel):
    """An ELECTRA."""

    config_class = ElectraMeanConfig
    base_model_prefix = "electra"
    encoder_class = ElectraModel
    encoder_options: ClassVar[dict[str, Any]] = {}


# The class for each `model_type` of an encoder.
MEAN_CLASSIFIERS: dict[str, type[Any]] = {
    "bert": BertMeanClassifier,
    "roberta": RobertaMeanClassifier,
    "xlm-roberta": XLMRobertaMeanClassifier,
    "mpnet": MPNetMeanClassifier,
    "distilbert": DistilBertMeanClassifier,
    "electra": ElectraMeanClassifier,
}


def register() -> None:
    """Let the Auto classes open these models, and let each checkpoint take this file along."""
    for model in MEAN_CLASSIFIERS.values():
        AutoConfig.register(model.config_class.model_type, model.config_class, exist_ok=True)
        AutoModelForSequenceClassification.register(model.config_class, model, exist_ok=True)
        model.config_class.register_for_auto_class()
        model.register_for_auto_class("AutoModelForSequenceClassification")
