"""The section `compress`: the training of the student."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from compress.recipe.sections.base import Positive, Rate, Section, Weight


class CompressOptions(Section):
    """The training of the student."""

    preset: str = Field("adabert", description="names the augmentation, student and objective that are not set")
    epochs: Positive
    batch_size: Positive
    learning_rate: Rate
    weight_decay: Weight = 0.01
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    average: Annotated[float, Field(ge=0, lt=1)] = Field(
        description="decay of the weights' moving average, a step; 0: none is taken"
    )
    patience: Positive = 4
    max_grad_norm: Rate = 1.0
    quantization_epochs: Annotated[int, Field(ge=0)] = Field(
        0,
        description="then fine-tune with INT8's rounding for so many passes, for a student that fails the export's gate",
    )
