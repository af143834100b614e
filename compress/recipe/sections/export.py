"""The sections `export` and `bench`: the content of the bundle, and how it is measured."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from compress.recipe.sections.base import Positive, Rate, Section, Weight


class ExportOptions(Section):
    """The precisions of the bundle and the accuracy that they may lose."""

    precisions: list[Literal["fp32", "int8", "fp16"]] = Field(
        ["fp32", "int8"],
        min_length=1,
        description="models in the bundle; its default is int8 if that passes the gate, else fp32; on a GPU it is fp16 if that is "
        "there and passes, else fp32",
    )
    budget: Weight = Field(1.0, description="points of dev accuracy a precision may lose")
    min_agreement: Annotated[float, Field(ge=0, le=1)] = Field(
        0.98, description="least share of the dev texts to which a precision must give the label that fp32 gives them"
    )
    below_linear: Literal["refuse", "warn"] = Field(
        "refuse",
        description="what happens to a student whose dev accuracy is more than a standard error below that of a linear model on "
        "n-grams: refuse makes no bundle, warn makes it and says so",
    )
    calibration_texts: Annotated[int, Field(ge=16)] = Field(
        512, description="training texts for calibrating the INT8 ranges"
    )
    golden_texts: Annotated[int, Field(ge=0)] = Field(
        32, description="dev texts that are put into the bundle with their logits, for `pocketbert verify`; 0: none"
    )
    compute_capability: Annotated[str, Field(pattern=r"^\d{1,2}\.\d$")] = Field(
        "8.9", description="compute capability of the GPU of a TensorRT engine"
    )


class BenchOptions(Section):
    """The measurements of `pocketbert bench`."""

    threads: Positive = Field(1, description="CPU threads of each engine")
    lengths: list[Annotated[int, Field(ge=4, le=512)]] = Field(
        [32, 128],
        min_length=1,
        description="lengths of the timed texts, in tokens; the default ones are cut to max_length",
    )
    batch_size: Positive = Field(32, description="texts in a batch where the throughput is measured")
    texts: Positive = Field(200, description="number of the task's own texts that are timed at batch size 1")
    seconds: Rate = Field(5.0, description="time for the measurement of one cell of the table")
