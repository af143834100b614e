"""The section `budget`: what the student may cost, and what it must be worth."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from compress.recipe.sections.base import Positive, Rate, Section


class BudgetOptions(Section):
    """Constraints on the bundle's default model. A bundle that does not meet them is refused."""

    target_latency_ms: Rate | None = Field(
        None,
        description="highest median time in ms for one text on this machine, with tokenisation and bench.threads threads; the search "
        "takes the best of the tried architectures that are fast enough",
    )
    max_bytes: Positive | None = Field(None, description="largest size of the model's file, in bytes")
    min_teacher_share: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="least accuracy on dev, as a share of the teacher's, for example 0.98"
    )
