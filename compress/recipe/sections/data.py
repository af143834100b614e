"""The section `data`: where the texts are and how to read them. It may have a target and a source domain."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, PrivateAttr, Tag, field_validator, model_validator

from compress.recipe.sections.base import Content, Positive, Section

Decontaminate = Literal["off", "exact", "overlap"]
TableFile = Annotated[Path, Content.FILE]
SPLITS = ("train", "dev", "test")
DELIMITED, JSON_LINES = (".csv", ".tsv"), (".jsonl", ".ndjson")  # the ends of names of tables
SourceLearner = Literal["teacher", "language_model", "student"]


class TextOptions(Section):
    """Where labelled texts are and how to read them."""

    _section: str = PrivateAttr("data")
    source: Literal["embedded", "files", "hub"] = Field(
        "embedded", description="where the texts are; files where train is given, hub where hub is"
    )
    train: TableFile | None = Field(
        None, description="training table: .tsv, .csv, .jsonl or .parquet; the text formats also as .gz"
    )
    hub: Annotated[str, Content.DATASET] | None = Field(
        None, description="dataset id on the Hugging Face hub, e.g. nyu-mll/glue"
    )
    hub_config: str | None = Field(None, description="configuration of the hub dataset, e.g. sst2")
    revision: str | None = Field(
        None,
        min_length=1,
        description="branch, tag or commit of the hub dataset; default: the newest state of its main branch",
    )
    text: str = Field("text", description="column with the text, or the first text of a pair")
    text_b: str | None = Field(None, description="column with the second text of a pair")
    label: str = Field("label", description="column with the label")
    domain: str | None = Field(None, description="column with the domain of each text")
    only_domains: list[str] | None = Field(None, min_length=1, description="use the texts of these domains only")
    quoting: bool | None = Field(
        None, description="whether fields may be quoted; default: true for .csv, false for .tsv"
    )
    separator: str | None = Field(
        None,
        min_length=1,
        max_length=1,
        description='what separates fields, such as ";"; default: a comma in .csv, a tab in .tsv',
    )
    encoding: str | None = Field(None, description='encoding of the text files, such as "latin-1"; default: UTF-8')
    limit: Positive | None = Field(
        None, description="use a sample of this many texts of each split (to try a recipe quickly)"
    )
    sample: Annotated[int, Field(ge=0)] = Field(0, description="seed of the samples")

    @model_validator(mode="before")
    @classmethod
    def _infer_source(cls, values: Any) -> Any:
        """Without `source`, the other keys tell where the texts are."""
        if isinstance(values, dict) and "source" not in values:
            return values | {"source": "files" if "train" in values else "hub" if "hub" in values else "embedded"}
        return values

    @property
    def section(self) -> str:
        """The name of this section, for messages: data, or data.target or data.source if there are two domains."""
        return self._section

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if self.source == "files" and self.train is None:
            raise ValueError('source = "files" needs train, the path of the training table')
        if self.source == "hub" and self.hub is None:
            raise ValueError('source = "hub" needs hub, the dataset\'s id')
        if self.revision is not None and self.source != "hub":
            raise ValueError("revision: only a dataset of the hub has one")
        if self.source == "embedded" and any(getattr(self, key, None) for key in ("train", "dev", "test", "hub")):
            raise ValueError('train, dev, test and hub need source = "files" or "hub"')
        self._check_one_source()
        if self.only_domains and self.domain is None and self.source != "embedded":
            raise ValueError("only_domains needs domain, the column that names a text's domain")
        return self

    def _check_one_source(self) -> None:
        """Refuse settings of another source of texts, which would have no effect."""
        if self.source == "files" and (other := self.hub or self.hub_config):
            raise ValueError(f"train and hub ({other}) are two sources of texts; leave one of them out")
        if self.source == "hub" and (table := next((key for key in SPLITS if getattr(self, key, None)), None)):
            raise ValueError(f"{table}: a dataset of the hub has its own splits; leave {table} out")
        if self.source != "hub" and self.hub_config is not None:
            raise ValueError("hub_config: only a dataset of the hub has one; set hub too")

    def unused_setting(self, further: Iterable[Path] = ()) -> str | None:
        """A setting of how tables are read, if no table of this task is read with it.

        :param further: files besides those of this section that are read with its settings.
        """
        files = [path for key in (*SPLITS, "unlabelled") if (path := getattr(self, key, None))]
        kinds = {suffix for path in (*files, *further) for suffix in map(str.lower, path.suffixes)}
        readers = {"separator": DELIMITED, "quoting": DELIMITED, "encoding": (*DELIMITED, *JSON_LINES, ".txt")}
        if self.source == "embedded" and not kinds:
            readers |= dict.fromkeys(("text", "text_b", "label", "domain"), ())
        given = [key for key in readers if getattr(self, key) != type(self).model_fields[key].default]
        return next((key for key in given if kinds.isdisjoint(readers[key])), None) if self.source != "hub" else None

    @model_validator(mode="after")
    def _check_columns(self) -> Self:
        columns = [column for column in (self.text, self.text_b, self.label) if column is not None]
        if twice := next((column for column in columns if columns.count(column) > 1), None):
            raise ValueError(f"text, text_b and label must be different columns; {twice!r} is given twice")
        return self

    @field_validator("separator")
    @classmethod
    def _check_separator(cls, value: str | None) -> str | None:
        if value in ('"', "\n", "\r"):
            raise ValueError("neither a quotation mark nor a line end can separate fields")
        return value

    @field_validator("encoding")
    @classmethod
    def _check_encoding(cls, value: str | None) -> str | None:
        try:
            "".encode(value or "utf-8")
        except LookupError:
            raise ValueError('no such encoding; examples are "utf-8", "utf-16", "latin-1", "cp1252"') from None
        return value


class DataOptions(TextOptions):
    """The data of the task, or of the target domain if there is a source domain too."""

    dev: TableFile | None = Field(
        None, description="table for early stopping and the accuracy gate; default: a part of train"
    )
    test: TableFile | None = Field(
        None,
        description="held-out table; default: a part of train if dev is not given either, else dev is used for the report",
    )
    unlabelled: TableFile | None = Field(
        None,
        description="further texts in the same columns, without labels, for an augmentation's language model and for distil_unlabelled",
    )
    distil_unlabelled: bool = Field(
        False,
        description="the student also learns the teacher's predictions on the unlabelled texts and on the training texts that are "
        "left out",
    )
    labels: list[str] | None = Field(None, description="label names in the order of the logits; default: sorted")
    relabel: dict[str, str] = Field(
        {},
        description="another name → the label's name in this task: for labels of the tables, and for the classes of a fine-tuned "
        "teacher, such as LABEL_0",
    )
    max_length: Annotated[int, Field(ge=8, le=512)] = Field(
        128, description="most tokens of a text (or pair); the rest is cut off"
    )
    train_limit: Positive | None = Field(
        None, description="use a sample of this many training texts, and all of dev and test"
    )
    train_fraction: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0,
        description="the same as a share of the training texts; texts that either setting leaves out count as unlabelled",
    )
    decontaminate: Decontaminate = Field(
        "off",
        description="which training and unlabelled texts to remove: exact, those that equal a dev or test text; overlap, also those "
        "that share five words in a row with one; off, none (they are only counted). An unlabelled example that equals a "
        "whole dev or test example is always removed",
    )


class SourceOptions(TextOptions):
    """A source domain: labelled texts of the same task from another domain, for a target with few texts."""

    _section: str = PrivateAttr("data.source")
    relabel: dict[str, str] = Field({}, description="the target's name of each label that has another name here")
    use: list[SourceLearner] | None = Field(
        None,
        description="the models that learn from these texts without augmentation; default: teacher and language model; with l2a also "
        "the student, for which the selector chooses among them",
    )
    decontaminate: Decontaminate = Field(
        "overlap", description="as in the target's data; compared with the target's dev and test texts"
    )

    @model_validator(mode="before")
    @classmethod
    def _check_place(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.keys().isdisjoint(("source", "train", "hub")):
            raise ValueError('data.source: say where its texts are: train, a file; hub, an id; or source = "embedded"')
        return values


class TwoDomainOptions(Section):
    """The section `data` of a recipe with two domains: the tables `data.target` and `data.source`."""

    target: DataOptions
    source: SourceOptions

    @model_validator(mode="before")
    @classmethod
    def _check_tables(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        if others := sorted(values.keys() - {"target", "source"}):
            raise ValueError(f"data.{others[0]}: with [data.source], this key belongs in [data.target]")
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
    """The form of `data`: `single` for one table, `domains` for a target and a source."""
    if isinstance(values, TwoDomainOptions):
        return "domains"
    two = isinstance(values, dict) and ("target" in values or isinstance(values.get("source"), dict))
    return "domains" if two else "single"


DataSection = Annotated[
    Annotated[DataOptions, Tag("single")] | Annotated[TwoDomainOptions, Tag("domains")], Discriminator(_data_form)
]
