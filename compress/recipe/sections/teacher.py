"""The sections `teacher`, `meta` and `domains`: the uncompressed classifier and what it learns from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from compress.recipe.sections.base import Content, Section, Weight
from compress.recipe.sections.training import TrainOptions


class TeacherOptions(TrainOptions):
    """The uncompressed classifier."""

    model: Annotated[str, Content.MODEL] = Field(
        "embedded", description="'embedded' (MiniLM-L6-H384), a local directory or a hub id"
    )
    fine_tuned: bool = Field(False, description="the model already classifies into these labels: do not train it")
    method: Literal["finetune", "meta"] = Field(
        "finetune", description="'meta': a meta-teacher over the domains of the texts (arXiv 2012.01266)"
    )


class MetaOptions(Section):
    """Meta-KD (arXiv 2012.01266): what a meta-teacher learns, and what it passes on."""

    corruption: Weight = Field(0.5, description="γ1, weight of the domain corruption in the teacher's loss; 0: none")
    expertise: bool = Field(True, description="weight each example by what the meta-teacher knows of it")
    transfer: Weight = Field(
        0.5, description="γ2, weight of the transfer loss, for objectives that compare inner states; 0: none"
    )


class DomainOptions(Section):
    """Which domains of a multi-domain corpus the teacher learns from and the student is for."""

    student: str | None = Field(None, description="the student learns from and is judged on this domain; default: all")
    students: Literal["shared", "per-domain"] = Field(
        "shared", description="one student for all domains, or one for each"
    )
    teacher: Literal["all", "own"] = Field(
        "all", description="the teacher learns from all domains or the student's own"
    )
    leave_out: list[str] = Field([], description="domains of which the teacher sees nothing")

    @model_validator(mode="after")
    def _check_scope(self) -> DomainOptions:
        if self.student is not None and self.students == "per-domain":
            raise ValueError(
                'student names one domain, and students = "per-domain" makes one for each; set one of them'
            )
        if self.teacher == "own" and self.student is None and self.students == "shared":
            raise ValueError('teacher = "own" needs domains.student, or students = "per-domain"')
        if self.teacher == "own" and self.leave_out:
            raise ValueError('leave_out says what a teacher of all domains does not see; teacher = "own" has one only')
        return self
