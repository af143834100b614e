"""The section `cascade`: the teacher answers the texts of which the student is unsure."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from compress.recipe.sections.base import Section, Weight


class CascadeOptions(Section):
    """What a cascade is worth or may cost. With one of these, the teacher is put into the bundle."""

    within_points: Weight | None = Field(
        None,
        description="points of dev accuracy that may be missing to the teacher's: as few texts go to the teacher as that takes",
    )
    max_share: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None,
        description="largest share of the texts that go to the teacher; alone, that share of dev does",
    )

    @property
    def wanted(self) -> bool:
        """Whether the bundle gets a cascade."""
        return self.within_points is not None or self.max_share is not None
