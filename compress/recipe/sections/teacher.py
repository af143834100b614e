"""The sections `teacher`, `tutor`, `meta` and `domains`: the uncompressed classifier, who teaches it, and its domains."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from compress.recipe.sections.base import Content, Positive, Section, Weight
from compress.recipe.sections.training import LengthOptions

EMBEDDED = ("embedded", "embedded-base")  # models from the package index, see `compress.data.assets.EMBEDDED_MODELS`
TEACHER_STEPS = 600  # of a teacher that the recipe does not give a length
MANY_CLASSES = 20  # with more, the head is fitted before the encoder is trained


class FineTuningOptions(LengthOptions):
    """The fine-tuning of a BERT."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in_length(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("epochs") is None and values.get("steps") is None:
            return {**values, "steps": TEACHER_STEPS}
        return values

    def changed_training(self) -> list[str]:
        """The settings of the training that are not at their defaults."""
        defaults = {name: field.default for name, field in FineTuningOptions.model_fields.items()}
        defaults |= {"steps": TEACHER_STEPS, "soup": 1}
        return [name for name, default in defaults.items() if getattr(self, name, default) != default]


class TeacherOptions(FineTuningOptions):
    """The uncompressed classifier."""

    model: Annotated[str, Content.MODEL] = Field(
        "embedded",
        description="'embedded' (MiniLM-L6-H384, for English), 'embedded-base' (MPNet, 12 layers × 768, 440 MB, for English), a local "
        "directory or a hub id",
    )
    revision: str | None = Field(
        None,
        min_length=1,
        description="branch, tag or commit of a hub model; default: the newest state of its main branch",
    )
    fine_tuned: bool = Field(
        False, description="the model is already a classifier for these labels, and is not trained"
    )
    representation: Literal["auto", "mean", "cls"] = Field(
        "auto",
        description="what the classification head gets: the mean of the last states ('mean', for sentence encoders), or what "
        "the model's own head takes, mostly the state of [CLS] ('cls'); 'auto': where the head is fitted first, the better of "
        "the two on dev before training, else 'cls'",
    )
    head_first: bool | None = Field(
        None,
        description="fit the head on the frozen encoder before all is trained (arXiv 2202.10054); the head alone is kept if "
        f"it stays the best on dev. By default only for more than {MANY_CLASSES} classes: with two it cost a point of accuracy",
    )
    soup: Positive = Field(
        1,
        description="trainings from the same first weights with the texts in other orders; the teacher is the mean of their weights "
        "(arXiv 2203.05482), calibrated on dev (arXiv 1706.04599): mostly half a point more accurate, and as fast to label with as one",
    )
    method: Literal["finetune", "meta"] = Field(
        "finetune", description="'meta': a meta-teacher for all domains of the texts (arXiv 2012.01266)"
    )

    @model_validator(mode="after")
    def _check_revision(self) -> TeacherOptions:
        if self.revision is not None and self.model in EMBEDDED:
            raise ValueError("revision: an embedded model has none; only a model of the hub has")
        return self

    @model_validator(mode="after")
    def _check_head(self) -> TeacherOptions:
        if self.fine_tuned and self.representation == "mean":
            raise ValueError("representation: a fine-tuned model keeps its own head; leave representation out")
        if self.fine_tuned and self.head_first:
            raise ValueError("head_first: a fine-tuned model keeps its own head; leave head_first out")
        return self


class TutorOptions(FineTuningOptions):
    """A larger model that is fine-tuned first. The teacher learns its answers instead of the labels (arXiv 1902.03393), by default one pass
    over the texts that the tutor has labelled.
    """

    model: Annotated[str | None, Content.MODEL] = Field(
        None,
        description="'embedded-base' (MPNet), a local directory or a hub id: a more accurate model than the teacher, and too slow to label "
        "a whole transfer set; default: none, the teacher learns the labels",
    )
    revision: str | None = Field(None, min_length=1, description="as `teacher.revision`")
    fine_tuned: bool = Field(False, description="as `teacher.fine_tuned`")
    texts: int = Field(
        60_000,
        ge=0,
        description="texts of the transfer set that it labels for the teacher, besides all labelled training texts; drawn at random",
    )

    def as_teacher(self) -> TeacherOptions:
        """The tutor's training is a teacher's."""
        names = FineTuningOptions.model_fields.keys() | {"model", "revision", "fine_tuned"}
        return TeacherOptions(**{name: getattr(self, name) for name in names})

    @model_validator(mode="after")
    def _check_model(self) -> TutorOptions:
        if self.model is not None:
            self.as_teacher()  # which checks the revision
        return self


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
