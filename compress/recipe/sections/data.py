"""The section `data`: where the texts are and how to read them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, PrivateAttr, Tag, model_validator

from compress.recipe.sections.base import Content, Positive, Section

Decontaminate = Literal["off", "exact", "overlap"]
TableFile = Annotated[Path, Content.FILE]
SourceLearner = Literal["teacher", "language_model", "student"]


class TextOptions(Section):
    """Where labelled texts are and how to read them."""

    _section: str = PrivateAttr("data")
    source: Literal["embedded", "files", "hub"] = "embedded"
    train: TableFile | None = Field(None, description="training table: .tsv .csv .jsonl .parquet, or the first two .gz")
    hub: str | None = Field(None, description="dataset id on the Hugging Face hub, e.g. nyu-mll/glue")
    hub_config: str | None = Field(None, description="configuration of the hub dataset, e.g. sst2")
    text: str = Field("text", description="column with the text, or the first text of a pair")
    text_b: str | None = Field(None, description="column with the second text of a pair")
    label: str = Field("label", description="column with the label")
    domain: str | None = Field(None, description="column with the domain of a multi-domain corpus")
    only_domains: list[str] | None = Field(None, min_length=1, description="use the texts of these domains only")
    quoting: bool | None = Field(None, description="fields may be quoted; default: true for .csv, false for .tsv")
    limit: Positive | None = Field(
        None, description="use a sample of so many texts of each split (to try a recipe quickly)"
    )
    sample: Annotated[int, Field(ge=0)] = Field(0, description="which sample: another number takes other texts")

    @model_validator(mode="before")
    @classmethod
    def _infer_source(cls, values: Any) -> Any:
        """Where the texts are is plain from the key that names them."""
        if isinstance(values, dict) and "source" not in values:
            return values | {"source": "files" if "train" in values else "hub" if "hub" in values else "embedded"}
        return values

    @property
    def section(self) -> str:
        """The recipe's section that this is, for messages: data, or data.target or data.source where there are both."""
        return self._section

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if self.source == "files" and self.train is None:
            raise ValueError('source = "files" needs train, the path of the training table')
        if self.source == "hub" and self.hub is None:
            raise ValueError('source = "hub" needs hub, the dataset\'s id')
        if self.source == "embedded" and any(getattr(self, key, None) for key in ("train", "dev", "test", "hub")):
            raise ValueError('train, dev, test and hub need source = "files" or "hub"')
        if self.only_domains and self.domain is None and self.source != "embedded":
            raise ValueError("only_domains needs domain, the column that names a text's domain")
        return self


class DataOptions(TextOptions):
    """The task's data, or the target's where there is a source domain too."""

    dev: TableFile | None = Field(
        None, description="table for early stopping and the accuracy gate; carved from train if absent"
    )
    test: TableFile | None = Field(
        None, description="held-out table; carved too if dev is absent, else dev is reported"
    )
    unlabelled: TableFile | None = Field(
        None,
        description="further texts in the same columns, without labels, for an augmentation's language model and `distil_unlabelled`",
    )
    distil_unlabelled: bool = Field(
        False,
        description="the student learns the teacher's answers on the unlabelled texts too, those of `unlabelled` and of the "
        "training texts left out",
    )
    labels: list[str] | None = Field(None, description="label names in the order of the logits; default: sorted")
    max_length: Annotated[int, Field(ge=8, le=512)] = Field(128, description="tokens kept of a text (or pair)")
    train_limit: Positive | None = Field(None, description="use a sample of so many training texts; dev and test whole")
    train_fraction: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="the same as a share of the texts; those left out, by either, count as unlabelled"
    )
    decontaminate: Decontaminate = Field(
        "off",
        description="training and unlabelled texts to remove: those that equal a dev or test text (exact), or share a run of "
        "five words with one too (overlap); off only counts them. Unlabelled examples that are one of dev or test as a whole "
        "are always removed",
    )


class SourceOptions(TextOptions):
    """A source domain: labelled texts of the same task from elsewhere, where the target's are scarce."""

    _section: str = PrivateAttr("data.source")
    relabel: dict[str, str] = Field({}, description="the target's label for each label that is called otherwise here")
    use: list[SourceLearner] | None = Field(
        None,
        description="who learns from these texts as they are; default: teacher and language model, and with L2A the student too, "
        "whose selector decides on each of them",
    )
    decontaminate: Decontaminate = Field(
        "overlap", description="as in the target's data, against its dev and test texts"
    )

    @model_validator(mode="before")
    @classmethod
    def _check_place(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.keys().isdisjoint(("source", "train", "hub")):
            raise ValueError('data.source: say where its texts are: train, a file; hub, an id; or source = "embedded"')
        return values


class TwoDomainOptions(Section):
    """The section `data` of a recipe with a source domain: the tables `data.target` and `data.source`."""

    target: DataOptions
    source: SourceOptions

    @model_validator(mode="before")
    @classmethod
    def _check_tables(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        if others := sorted(values.keys() - {"target", "source"}):
            raise ValueError(f"data.{others[0]}: beside [data.source], the target's keys stand in [data.target]")
        for name in ("target", "source"):
            if not isinstance(values.get(name), dict):
                raise ValueError(
                    f"data.{name}: [data.target] and [data.source] are two tables; without a source write [data]"
                )
        return values

    @model_validator(mode="after")
    def _name_section(self) -> Self:
        self.target._section = "data.target"
        return self


def _data_form(values: Any) -> str:
    """Whether `data` is one table, or two in it."""
    if isinstance(values, TwoDomainOptions):
        return "domains"
    two = isinstance(values, dict) and ("target" in values or isinstance(values.get("source"), dict))
    return "domains" if two else "single"


DataSection = Annotated[
    Annotated[DataOptions, Tag("single")] | Annotated[TwoDomainOptions, Tag("domains")], Discriminator(_data_form)
]
