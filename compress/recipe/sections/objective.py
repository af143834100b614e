"""The section `objective`: the loss by which the student learns from its teacher."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self, get_args

from pydantic import Field, model_validator

from compress.recipe.sections.base import Positive, Probability, Rate, Section, Weight


class NoObjective(Section):
    """Cross-entropy with the labels, without a teacher."""

    method: Literal["none"] = "none"


class ProbesObjective(Section):
    """AdaBERT's probe distillation: every cell learns from the probe on its matched teacher layer."""

    method: Literal["probes"] = "probes"
    gamma: Probability = Field(0.8, description="share of distillation in the loss")
    tau: Rate = Field(1.0, description="temperature of the probe weights")


class LogitsObjective(Section):
    """Soft labels (Hinton et al. 2015): (1 − α)·CE + α·τ²·KL."""

    method: Literal["logits"] = "logits"
    temperature: Rate = Field(2.0, description="temperature τ of the soft labels")
    alpha: Probability = Field(0.9, description="share α of the teacher's answers in the loss")


class MseObjective(Section):
    """Mean squared error of the logits (arXiv 1903.12136): (1 − α)·CE + α·MSE."""

    method: Literal["mse"] = "mse"
    alpha: Probability = Field(1.0, description="share α of the teacher's answers in the loss")


class FeatureObjective(Section):
    """An objective that compares hidden states or attention, not only logits. Only a transformer student can have it."""

    compares: ClassVar[str]  # for messages


class DistilBertObjective(FeatureObjective):
    """DistilBERT's triple loss: soft labels, labels, cosine of the last hidden states (arXiv 1910.01108)."""

    compares: ClassVar[str] = "hidden states"

    method: Literal["distilbert"] = "distilbert"
    temperature: Rate = Field(2.0, description="temperature τ of the soft labels")
    soft: Weight = Field(5.0, description="weight of the soft labels")
    hard: Weight = Field(2.0, description="weight of the labels")
    cosine: Weight = Field(1.0, description="weight of the cosine loss")

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        if not self.soft + self.hard + self.cosine:
            raise ValueError("soft, hard and cosine are weights; one of them must be above 0")
        return self


class PkdObjective(FeatureObjective):
    """Patient knowledge distillation: soft labels, and [CLS] states of matched layers (arXiv 1908.09355)."""

    compares: ClassVar[str] = "the [CLS] states of layers"

    method: Literal["pkd"] = "pkd"
    temperature: Rate = Field(5.0, description="temperature τ of the soft labels")
    alpha: Probability = Field(0.7, description="share of the soft labels in the loss of the predictions")
    beta: Weight = Field(100.0, description="weight of the patient loss")
    layers: Literal["skip", "last"] = Field(
        "skip", description="teacher layers that the student's layers learn from: at equal distances, or the last ones"
    )


class TwoStageObjective(FeatureObjective):
    """First the student learns the teacher's hidden states or attention, then the teacher's predictions."""

    intermediate_epochs: Positive = Field(2, description="epochs of the first stage; compress.epochs is for the second")
    intermediate_learning_rate: Rate = Field(1e-4, description="highest learning rate of the first stage")


class TinyBertObjective(TwoStageObjective):
    """Embeddings, hidden states and attention scores, then predictions (arXiv 1909.10351)."""

    compares: ClassVar[str] = "hidden states and attention"
    method: Literal["tinybert"] = "tinybert"
    temperature: Rate = Field(1.0, description="temperature τ of the soft labels")


class MiniLmObjective(TwoStageObjective):
    """Attention and value relations of the last layer, then predictions (arXiv 2002.10957)."""

    compares: ClassVar[str] = "attention and value relations"
    method: Literal["minilm"] = "minilm"
    temperature: Rate = Field(1.0, description="temperature τ of the soft labels")


ObjectiveOptions = Annotated[
    NoObjective
    | ProbesObjective
    | LogitsObjective
    | MseObjective
    | DistilBertObjective
    | PkdObjective
    | TinyBertObjective
    | MiniLmObjective,
    Field(discriminator="method"),
]
FEATURE_METHODS = tuple(
    form.model_fields["method"].default
    for form in get_args(get_args(ObjectiveOptions)[0])
    if issubclass(form, FeatureObjective)
)
