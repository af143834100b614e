"""The recipe: everything one task needs, in one validated TOML file."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from compress.errors import UserError

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataOptions(_Section):
    """Where the labelled texts are and how to read them."""

    source: Literal["embedded", "files", "hub"] = "embedded"
    train: Path | None = Field(None, description="training table: .tsv .csv .jsonl .parquet, or the first two .gz")
    dev: Path | None = Field(
        None, description="table for early stopping and the accuracy gate; carved from train if absent"
    )
    test: Path | None = Field(None, description="held-out table; carved too if dev is absent, else dev is reported")
    hub: str | None = Field(None, description="dataset id on the Hugging Face hub, e.g. nyu-mll/glue")
    hub_config: str | None = Field(None, description="configuration of the hub dataset, e.g. sst2")
    text: str = Field("text", description="column with the text, or the first text of a pair")
    text_b: str | None = Field(None, description="column with the second text of a pair")
    label: str = Field("label", description="column with the label")
    domain: str | None = Field(None, description="column with the domain of a multi-domain corpus")
    labels: list[str] | None = Field(None, description="label names in the order of the logits; default: sorted")
    quoting: bool | None = Field(None, description="fields may be quoted; default: true for .csv, false for .tsv")
    max_length: Annotated[int, Field(ge=8, le=512)] = Field(128, description="tokens kept of a text (or pair)")
    limit: Positive | None = Field(
        None, description="use a sample of so many texts of each split (to try a recipe quickly)"
    )

    @model_validator(mode="after")
    def _check_source(self) -> DataOptions:
        if self.source == "files" and self.train is None:
            raise ValueError('source = "files" needs data.train, the path of the training table')
        if self.source == "hub" and self.hub is None:
            raise ValueError('source = "hub" needs data.hub, the dataset\'s id')
        if self.source == "embedded" and (self.train or self.dev or self.test or self.hub):
            raise ValueError('data.train, dev, test and hub need source = "files" or "hub"')
        return self


class TrainOptions(_Section):
    """One training: how long, in what steps."""

    epochs: Positive = 1
    batch_size: Positive = 32
    learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup: Annotated[float, Field(ge=0, lt=1)] = Field(0.1, description="fraction of the steps with a rising rate")
    patience: Positive = Field(3, description="evaluations without a better dev metric before stopping")
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0


class TeacherOptions(TrainOptions):
    """The uncompressed classifier."""

    model: str = Field("embedded", description="'embedded' (MiniLM-L6-H384), a local directory or a hub id")
    fine_tuned: bool = Field(False, description="the model already classifies into these labels: do not train it")


class AdaBertOptions(_Section):
    """AdaBERT: differentiable search of a convolutional student (arXiv 2001.04246)."""

    preset: Literal["adabert"] = "adabert"
    width: Annotated[int, Field(ge=16, le=1024, multiple_of=8)] = Field(128, description="channels of the student")
    max_cells: Annotated[int, Field(ge=1, le=8)] = Field(2, description="K_max, the deepest student considered")
    spans: Annotated[int, Field(ge=0)] = Field(2, description="teacher-labelled spans sampled from each training text")
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    token_dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.1, description="share of tokens zeroed in training")
    gamma: Annotated[float, Field(ge=0, le=1)] = Field(0.8, description="share of distillation in the loss")
    beta: Annotated[float, Field(ge=0)] = Field(
        0.1, description="weight of the efficiency loss L_E, which is in [0, 1]"
    )
    tau: Annotated[float, Field(gt=0)] = Field(1.0, description="temperature of the probe weights")
    gumbel: tuple[float, float] = Field((1.0, 0.2), description="first and last Gumbel-softmax temperature")
    dense: bool = Field(
        True, description="architecture steps compute all ten operations of an edge, not only the drawn one"
    )
    architecture_every: Positive = Field(4, description="weight steps to one architecture step")
    search_epochs: Positive = 2
    epochs: Positive = Field(5, description="epochs of the final training")
    batch_size: Positive = 64
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    architecture_learning_rate: Annotated[float, Field(gt=0)] = 2e-2
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    average: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.998, description="decay of the weights' moving average, a step"
    )
    patience: Positive = 4


class ExportOptions(_Section):
    """Precisions to build and the accuracy they may cost."""

    precisions: list[Literal["fp32", "int8"]] = Field(["fp32", "int8"], min_length=1)
    budget: Annotated[float, Field(ge=0)] = Field(1.0, description="points of dev accuracy a precision may lose")
    calibration_texts: Annotated[int, Field(ge=16)] = Field(512, description="training texts that set the INT8 ranges")
    compute_capability: Annotated[str, Field(pattern=r"^\d{1,2}\.\d$")] = Field(
        "8.9", description="GPU of a TensorRT engine"
    )


class BenchOptions(_Section):
    """What `python -m bench compare` measures."""

    threads: Positive = 1
    lengths: list[Annotated[int, Field(ge=4, le=512)]] = Field([32, 128], min_length=1)
    batch_size: Positive = 32
    texts: Positive = Field(200, description="the task's own texts, each timed at batch 1")
    seconds: Annotated[float, Field(gt=0)] = Field(5.0, description="measuring time of one cell of the table")


class Recipe(_Section):
    """One task, from labelled texts to a served bundle."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    seed: Annotated[int, Field(ge=0)] = 0
    data: DataOptions = DataOptions()
    teacher: TeacherOptions = TeacherOptions()
    compress: AdaBertOptions = AdaBertOptions()
    export: ExportOptions = ExportOptions()
    bench: BenchOptions = BenchOptions()

    def dump(self) -> dict[str, Any]:
        """The recipe as plain JSON types."""
        return json.loads(self.model_dump_json())


def load_recipe(path: Path, overrides: list[str] | None = None) -> Recipe:
    """Read and validate a recipe.

    :param path: a TOML file; a relative data path in it is relative to the file.
    :param overrides: `section.key=value` settings from the command line; a value is TOML, or else a plain string.
    :raises UserError: no such file, no TOML, an unknown key or a wrong value; the message names the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such recipe; `ls recipes/` shows the ones there are") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable text file ({error})") from None
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: not valid TOML: {error}") from None
    table.setdefault("name", path.stem)
    overridden = [_apply_override(table, item) for item in overrides or []]
    try:
        recipe = Recipe.model_validate(table)
    except ValidationError as error:
        raise UserError(_describe(error, path, text, overridden)) from None
    return _resolve_paths(recipe, path.parent, overridden)


def _apply_override(table: dict[str, Any], item: str) -> str:
    key, equals, value = item.partition("=")
    key = key.strip()
    if not equals or not key:
        raise UserError(f"--set {item}: write it as section.key=value, e.g. --set compress.epochs=3")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    *sections, last = key.split(".")
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise UserError(f"--set {item}: {section} is a value, not a section")
    table[last] = parsed
    return key


def _describe(error: ValidationError, path: Path, text: str, overridden: list[str]) -> str:
    """The first validation error in one line, with the line of the recipe (or the flag) that holds it."""
    first = error.errors(include_url=False, include_context=False)[0]
    location = [part for part in first["loc"] if isinstance(part, str)]
    key = ".".join(location)
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = f"unknown key; known here: {', '.join(_known_keys(location[:-1]))}"
    elif not isinstance(first["input"], dict):
        message = f"{message}, got {first['input']!r}"
    place = f"--set {key}" if key in overridden else f"{path}{_line_of(text, location)}: {key or 'recipe'}"
    more = len(error.errors()) - 1
    return f"{place}: {message}" + (f" (and {more} more)" if more else "")


def _known_keys(sections: list[str]) -> list[str]:
    model: type[BaseModel] = Recipe
    for section in sections:
        model = model.model_fields[section].annotation  # type: ignore[assignment]
    return list(model.model_fields)


def _line_of(text: str, location: list[str]) -> str:
    """`:N` for the line of the recipe that sets `location`, or of its section, or nothing."""
    section: list[str] = []
    best = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line):
            section = [part.strip().strip("\"'") for part in header[1].split(".")]
            if section == location[: len(section)] and not best:
                best = f":{number}"
        elif (setting := re.match(r"\s*([\w.\"'-]+)\s*=", line)) and (
            section + [part.strip("\"'") for part in setting[1].split(".")] == location
        ):
            return f":{number}"
    return best


def _resolve_paths(recipe: Recipe, folder: Path, overridden: list[str]) -> Recipe:
    """Make data paths and a teacher directory absolute: those of the file against its folder, those of a flag against the cwd."""

    def resolve(key: str, value: Path) -> Path:
        return (value if key in overridden else folder / value.expanduser()).absolute()

    tables = {
        name: resolve(f"data.{name}", value)
        for name in ("train", "dev", "test")
        if (value := getattr(recipe.data, name))
    }
    teacher = recipe.teacher
    directory = resolve("teacher.model", Path(teacher.model))
    if teacher.model != "embedded" and directory.is_dir():
        teacher = teacher.model_copy(update={"model": str(directory)})
    return recipe.model_copy(update={"data": recipe.data.model_copy(update=tables), "teacher": teacher})
