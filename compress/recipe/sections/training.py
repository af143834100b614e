"""The section `compress`, the training of the student, and what it shares with other trainings."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from compress.recipe.sections.base import Positive, Rate, Section, Weight


class TrainOptions(Section):
    """One training of weights: how long, in what steps."""

    epochs: Positive = 1
    batch_size: Positive = 32
    learning_rate: Rate = 5e-5
    weight_decay: Weight = 0.01
    warmup: Annotated[float, Field(ge=0, lt=1)] = Field(0.1, description="share of the steps in which the rate rises")
    patience: Positive = Field(3, description="evaluations without a better dev metric before stopping")
    max_grad_norm: Rate = 1.0


class CompressOptions(TrainOptions):
    """The training of the student."""

    preset: str = Field("adabert", description="names the augmentation, student and objective that are not set")
    epochs: Positive
    batch_size: Positive
    learning_rate: Rate
    patience: Positive = 4
    average: Annotated[float, Field(ge=0, lt=1)] = Field(
        description="decay of the weights' moving average, a step; 0: none is taken"
    )
    quantization_epochs: Annotated[int, Field(ge=0)] = Field(
        0,
        description="then fine-tune with INT8's rounding for so many passes, for a student that fails the export's gate",
    )
