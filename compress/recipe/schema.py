"""The recipe: everything one task needs, in one validated TOML file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from compress.recipe.presets import PRESETS
from compress.recipe.sections import (
    AugmentationOptions,
    BenchOptions,
    BudgetOptions,
    CascadeOptions,
    CompressOptions,
    DataOptions,
    DataSection,
    DomainOptions,
    ExportOptions,
    FeatureObjective,
    L2aOptions,
    MetaOptions,
    ObjectiveOptions,
    SearchOptions,
    Section,
    SourceLearner,
    SourceOptions,
    StudentOptions,
    TeacherOptions,
    TransferOptions,
    TutorOptions,
    TwoDomainOptions,
)


class Recipe(Section):
    """One task, from labelled texts to a served bundle."""

    name: str = Field(
        description="the task; its results are in artifacts/NAME. Up to 100 letters, digits, dots, underscores and hyphens"
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(  # NumPy takes no larger one
        0, description="of all that is drawn at random"
    )
    data: DataSection = DataOptions()
    teacher: TeacherOptions = TeacherOptions()
    tutor: TutorOptions = TutorOptions()
    meta: MetaOptions = MetaOptions()
    domains: DomainOptions = DomainOptions()
    augmentation: AugmentationOptions
    student: StudentOptions
    objective: ObjectiveOptions
    transfer: TransferOptions = TransferOptions()
    search: SearchOptions = SearchOptions()
    compress: CompressOptions
    budget: BudgetOptions = BudgetOptions()
    export: ExportOptions = ExportOptions()
    cascade: CascadeOptions = CascadeOptions()
    bench: BenchOptions = BenchOptions()

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", value):
            fitting = re.sub(r"[^A-Za-z0-9._]+", "-", value).strip("._-")[:40] or "my-task"
            raise ValueError(
                'name: it is that of a folder: up to 100 of the letters A to Z, digits, ".", "_" and "-"; '
                f'set name = "{fitting}"'
            )
        return value

    @property
    def target(self) -> DataOptions:
        """The data of the task: the section `data`, or `data.target` if there is a source domain."""
        return self.data.target if isinstance(self.data, TwoDomainOptions) else self.data

    @property
    def source(self) -> SourceOptions | None:
        """The data of the source domain: the section `data.source`, or None."""
        return self.data.source if isinstance(self.data, TwoDomainOptions) else None

    @model_validator(mode="before")
    @classmethod
    def _fill_in_length_of_tutored(cls, values: Any) -> Any:
        """A teacher with a tutor has many more texts than those with labels: by default it sees each once."""
        teacher, tutor = (values.get(name, {}) for name in ("teacher", "tutor"))
        if not isinstance(teacher, dict) or not isinstance(tutor, dict) or tutor.get("model") is None:
            return values
        has_length = any(teacher.get(name) is not None for name in ("epochs", "steps"))
        return values if has_length else {**values, "teacher": {**teacher, "epochs": 1}}

    @model_validator(mode="after")
    def _check_combination(self) -> Recipe:
        """Refuse combinations of student, objective and augmentation that do not work, with the reason."""
        kind, objective = self.student.kind, self.objective.method
        if self.compress.preset not in PRESETS:
            raise ValueError(f"compress.preset: {self.compress.preset!r} is unknown; there are {', '.join(PRESETS)}")
        if objective == "probes" and kind != "cnn":
            raise ValueError(
                f"objective.method: 'probes' needs a classifier after every cell, which only student.kind = \"cnn\" has, not {kind}; use logits"
            )
        if isinstance(self.objective, FeatureObjective) and kind != "transformer":
            raise ValueError(
                f"objective.method: {objective!r} compares {self.objective.compares}, and a {kind} does not have them; "
                f'use {"probes, " if kind == "cnn" else ""}logits or mse, or student.kind = "transformer"'
            )
        if objective == "none" and self.augmentation.method != "none":
            raise ValueError(
                f"augmentation.method: {self.augmentation.method!r} needs a teacher to label its texts, and objective.method = "
                '"none" has no teacher; use objective logits'
            )
        if objective == "none" and self.target.distil_unlabelled:
            raise ValueError(
                f'{self.target.section}.distil_unlabelled: the teacher labels these texts, and objective.method = "none" has no teacher; '
                "use objective logits"
            )
        if isinstance(self.augmentation, L2aOptions) and self.augmentation.source_share and self.source is None:
            raise ValueError("augmentation.source_share: there is no source domain to sample from; add [data.source]")
        return self

    @model_validator(mode="after")
    def _check_search(self) -> Recipe:
        """Refuse a search of what is not searched, and settings of one without effect."""
        kind, search = self.student.kind, self.search
        if "search" in self.model_fields_set and kind == "cnn" and not self.bounds_architecture:
            raise ValueError("search: the recipe gives an architecture, so none is searched; remove the section")
        if unused := search.unused_setting():
            raise ValueError(f'search.{unused}: has no effect with search.space = "{search.space}"; leave it out')
        if search.space == "wide" and not search.trials:
            raise ValueError("search.trials: the wide space is searched by trials alone, so there must be some")
        if search.inherit and getattr(self.student, "members", 1) > 1:
            raise ValueError(
                "search.inherit: the weights of the search are those of one network; set student.members = 1"
            )
        if "search" in self.model_fields_set and kind != "cnn":
            raise ValueError(f'search: only student.kind = "cnn" is searched, not {kind}; remove the section')
        if search.max_parameters is not None and getattr(self.student, "architecture", None) == "random":
            raise ValueError(
                "search.max_parameters: a random architecture keeps to search.max_cost only; leave max_parameters out"
            )
        return self

    @model_validator(mode="after")
    def _check_tables(self) -> Recipe:
        """Refuse settings of tables in a recipe that has no such table."""
        bank = [Path(self.transfer.bank)] if self.transfer.bank != "embedded" else []
        unused = {self.target.section: self.target.unused_setting(bank)}
        if self.source is not None:
            unused[self.source.section] = self.source.unused_setting()
        for section, name in unused.items():
            if name is not None:
                raise ValueError(
                    f"{section}.{name}: no table of this task is read with it; leave it out, or name the table in train"
                )
        return self

    @model_validator(mode="after")
    def _check_transfer(self) -> Recipe:
        """Refuse a transfer set where the student has no teacher, and settings of one that there is not."""
        given = self.transfer.model_fields_set
        if given and given.isdisjoint(("texts", "sampled", "joined", "replaced")):
            raise ValueError(
                f"transfer.{min(given)}: without transfer.texts, sampled, joined or replaced there is no transfer set; set how many texts to take"
            )
        if (unread := given & {"bank", "select"}) and "texts" not in given:
            raise ValueError(
                f"transfer.{min(unread)}: no text is drawn from a bank without transfer.texts; set how many, or leave it out"
            )
        if self.transfer.sampled and self.target.text_b is not None:
            raise ValueError(
                "transfer.sampled: only single texts are sampled, and the task is on pairs (data.text_b); set transfer.joined instead"
            )
        if self.transfer.any and self.objective.method == "none":
            raise ValueError(
                'transfer: the teacher labels these texts, and objective.method = "none" learns without one'
            )
        if self.transfer.any and self.weights_examples and self.transfer.judge != "auto":
            raise ValueError(
                "transfer.judge: a meta-teacher's weights need its hidden states, so it labels as it was trained; leave it out, "
                "or set meta.expertise = false"
            )
        return self

    @model_validator(mode="after")
    def _check_tutor(self) -> Recipe:
        """Refuse a tutor where the teacher does not learn from it."""
        if not self.has_tutor:
            if "tutor" in self.model_fields_set:
                raise ValueError("tutor.model: without it there is no tutor; set it, or remove the section")
            return self
        if self.teacher.fine_tuned:
            raise ValueError(
                "tutor: a teacher that is fine-tuned already learns nothing; remove teacher.fine_tuned, or the tutor"
            )
        if self.teacher.method == "meta" or "domains" in self.model_fields_set or self.source is not None:
            raise ValueError(
                "tutor: it is not combined with a meta-teacher, the section domains or a source domain yet; remove one of them"
            )
        if "texts" in self.tutor.model_fields_set and self.tutor.texts and not self.transfer.any:
            raise ValueError(
                "tutor.texts: there is no transfer set to take them from; set transfer.texts, sampled, joined or replaced, or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _check_domains(self) -> Recipe:
        """Refuse settings of domains or of a meta-teacher in a recipe that does not have them."""
        meta = self.teacher.method == "meta"
        if self.source is not None and (meta or "domains" in self.model_fields_set):
            raise ValueError(
                "domains: they are the domains of one table, and a source domain is another table; for a meta-teacher, put all texts "
                "into one table"
            )
        if meta and isinstance(self.augmentation, L2aOptions):
            raise ValueError("augmentation.method: l2a's selector and a meta-teacher's weights are not combined yet")
        if self.target.distil_unlabelled and (meta or self.domains.student or self.domains.students == "per-domain"):
            raise ValueError(
                "data.distil_unlabelled: an unlabelled text has no domain, but a meta-teacher and the student of a domain need one; "
                "leave it out"
            )
        if "meta" in self.model_fields_set and not meta:
            raise ValueError('meta: only teacher.method = "meta" has a meta-teacher; remove the section or set it')
        if meta and self.teacher.fine_tuned:
            raise ValueError(
                'teacher.fine_tuned: a meta-teacher has to be trained; leave it out, or set method = "finetune"'
            )
        if (meta or "domains" in self.model_fields_set) and self.target.source != "embedded" and not self.target.domain:
            raise ValueError("data.domain: name the column that holds the domain of each text")
        if "transfer" in self.meta.model_fields_set and self.meta.transfer and not self._compares_features:
            raise ValueError(
                f"meta.transfer: objective.method = {self.objective.method!r} compares no hidden states, which the transfer "
                "loss needs; set it to 0 or use tinybert"
            )
        return self

    @model_validator(mode="after")
    def _check_cascade(self) -> Recipe:
        """Refuse a cascade without a constraint."""
        if "cascade" in self.model_fields_set and not self.cascade.wanted:
            raise ValueError("cascade: set within_points or max_share; without them the student answers all texts")
        return self

    @property
    def has_tutor(self) -> bool:
        """Whether the teacher learns the answers of a larger model."""
        return self.tutor.model is not None

    def of_tutor(self) -> Recipe:
        """The recipe with the tutor in the teacher's place."""
        return self.model_copy(update={"teacher": self.tutor.as_teacher(), "tutor": TutorOptions()})

    @property
    def bounds_architecture(self) -> bool:
        """Whether the section `search` is used: the architecture is searched, or is random with a limited cost."""
        return getattr(self.student, "architecture", None) in ("searched", "random")

    @property
    def _compares_features(self) -> bool:
        return isinstance(self.objective, FeatureObjective)

    @property
    def weights_examples(self) -> bool:
        """Whether each example's distillation loss is weighted by the meta-teacher's expertise."""
        return self.teacher.method == "meta" and self.meta.expertise

    @property
    def transfer_weight(self) -> float:
        """γ2, the weight of the transfer loss; 0 if there is none."""
        return self.meta.transfer if self.teacher.method == "meta" and self._compares_features else 0.0

    @property
    def source_learners(self) -> tuple[SourceLearner, ...]:
        """The models that learn from the unchanged texts of the source domain. None if there is no such domain."""
        if self.source is None:
            return ()
        if self.source.use is not None:
            return tuple(self.source.use)
        # The student only if L2A selects its texts: texts of a distant domain can do more harm than good.
        return ("teacher", "language_model", *(("student",) if isinstance(self.augmentation, L2aOptions) else ()))

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """As in a recipe's file: without the sections that are not used."""
        dumped = handler(self)
        if not self.bounds_architecture:
            del dumped["search"]
        if self.teacher.method != "meta":
            del dumped["meta"]
        elif not self._compares_features:
            del dumped["meta"]["transfer"]
        if "domains" not in self.model_fields_set:
            del dumped["domains"]
        if not self.cascade.wanted:
            del dumped["cascade"]
        if not self.has_tutor:
            del dumped["tutor"]
        return dumped

    def dump(self) -> dict[str, Any]:
        """The recipe as plain JSON types."""
        return json.loads(self.model_dump_json())
