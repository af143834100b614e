"""The section `compress`, the training of the student, and settings that all trainings have."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from compress.recipe.sections.base import Positive, Rate, Section, Weight


class TrainOptions(Section):
    """The settings of one training."""

    batch_size: Positive = Field(32, description="examples in a step")
    learning_rate: Rate = Field(5e-5, description="highest learning rate; it rises, then falls linearly")
    weight_decay: Weight = Field(0.01, description="weight decay of AdamW")
    warmup: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.1, description="share of the steps in which the learning rate rises"
    )
    patience: Positive = Field(3, description="evaluations without a better dev metric after which the training stops")
    max_grad_norm: Rate = Field(1.0, description="longer gradients are scaled down to this norm")


class LengthOptions(TrainOptions):
    """A training whose length is given in steps or in epochs."""

    epochs: Positive | None = Field(None, description="passes over the texts, instead of steps")
    steps: Positive | None = Field(
        None,
        description="training steps, however many texts there are: so a small task is learned as long as a large one",
    )

    @model_validator(mode="after")
    def _check_length(self) -> Self:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("set epochs or steps, not both" if self.epochs else "set epochs or steps")
        return self


class CompressOptions(LengthOptions):
    """The training of the student."""

    preset: str = Field(
        "adabert",
        description="gives the teacher method, augmentation, student and objective that the recipe does not set",
    )
    batch_size: Positive = Field(description="examples in a step; default: by the kind of student")
    learning_rate: Rate = Field(description="highest learning rate; default: by the kind of student")
    patience: Positive = Field(4, description="evaluations without a better dev metric after which the training stops")
    average: Annotated[float, Field(ge=0, lt=1)] = Field(
        description="decay per step of the moving average of the weights; 0: no moving average"
    )
    quantization_epochs: Annotated[int, Field(ge=0)] = Field(
        0,
        description="epochs of quantisation-aware training after that, for a student that fails the accuracy gate of the export",
    )

    def passes(self, batches: int) -> int:
        """Passes over `batches` batches that make `steps` steps, rounded up; or `epochs`."""
        return self.epochs if self.epochs is not None else -(-(self.steps or 0) // batches)
