"""The sections `teacher`, `meta` and `domains`: the uncompressed classifier and its domains."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from compress.recipe.sections.base import Content, Positive, Section, Weight
from compress.recipe.sections.training import TrainOptions


class TeacherOptions(TrainOptions):
    """The uncompressed classifier."""

    model: Annotated[str, Content.MODEL] = Field(
        "embedded", description="'embedded' (MiniLM-L6-H384), a local directory or a hub id"
    )
    fine_tuned: bool = Field(
        False, description="the model is already a classifier for these labels, and is not trained"
    )
    epochs: Positive = 1
    method: Literal["finetune", "meta"] = Field(
        "finetune", description="'meta': a meta-teacher for all domains of the texts (arXiv 2012.01266)"
    )


class MetaOptions(Section):
    """Meta-KD (arXiv 2012.01266): the training of a meta-teacher, and of a student from it."""

    corruption: Weight = Field(
        0.5, description="γ1, weight of domain corruption in the teacher's loss; 0: no domain corruption"
    )
    expertise: bool = Field(True, description="weight the examples by the meta-teacher's expertise")
    transfer: Weight = Field(
        0.5,
        description="γ2, weight of the transfer loss, for objectives that compare hidden states or attention; 0: no transfer loss",
    )


class DomainOptions(Section):
    """The domains of the teacher and of the student in a corpus with several domains."""

    student: str | None = Field(
        None, description="the domain for training and evaluating the student; default: all domains"
    )
    students: Literal["shared", "per-domain"] = Field(
        "shared", description="one student for all domains, or one student for each domain"
    )
    teacher: Literal["all", "own"] = Field(
        "all", description="the teacher learns from all domains, or from the student's domain only"
    )
    leave_out: list[str] = Field([], description="domains that are left out of the teacher's training")

    @model_validator(mode="after")
    def _check_scope(self) -> DomainOptions:
        if self.student is not None and self.students == "per-domain":
            raise ValueError(
                'student names one domain, and students = "per-domain" makes a student for each; set only one of them'
            )
        if self.teacher == "own" and self.student is None and self.students == "shared":
            raise ValueError('teacher = "own" needs domains.student, or students = "per-domain"')
        if self.teacher == "own" and self.leave_out:
            raise ValueError('leave_out needs a teacher of all domains, and teacher = "own" has one domain only')
        return self
