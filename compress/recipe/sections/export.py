"""The sections `export` and `bench`: what the bundle holds, and how it is measured."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from compress.recipe.sections.base import Positive, Rate, Section, Weight


class ExportOptions(Section):
    """Precisions to build and the accuracy they may cost."""

    precisions: list[Literal["fp32", "int8"]] = Field(["fp32", "int8"], min_length=1)
    budget: Weight = Field(1.0, description="points of dev accuracy a precision may lose")
    calibration_texts: Annotated[int, Field(ge=16)] = Field(512, description="training texts that set the INT8 ranges")
    compute_capability: Annotated[str, Field(pattern=r"^\d{1,2}\.\d$")] = Field(
        "8.9", description="GPU of a TensorRT engine"
    )


class BenchOptions(Section):
    """What `python -m bench compare` measures."""

    threads: Positive = 1
    lengths: list[Annotated[int, Field(ge=4, le=512)]] = Field([32, 128], min_length=1)
    batch_size: Positive = 32
    texts: Positive = Field(200, description="the task's own texts, each timed at batch 1")
    seconds: Rate = Field(5.0, description="measuring time of one cell of the table")
