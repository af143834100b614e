"""What all sections of a recipe share: closed tables of typed keys."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(gt=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    """A table of the recipe; unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True)
