"""The file of a table: methods, data sets and seeds, and the recipe of each run."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from compress.recipe import Recipe, recipe_from
from compress.runtime.errors import UserError

TABLES = Path("recipes/tables")
SPLITS = ("train", "dev", "test")
PRECISIONS = ("fp32", "int8")  # of a student; a teacher has fp32 only
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Seeds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
Partial = dict[str, Any]  # a part of a recipe, as TOML gives it


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _RecipePart(_Part):
    """What rows and columns have in common: a note, and a part of the recipe."""

    note: str = ""  # shown under the table
    recipe: Partial = {}

    @field_validator("recipe")
    @classmethod
    def _check(cls, value: Partial) -> Partial:
        return _without_reserved(value)


class Column(_RecipePart):
    """One data set. Without `train` it is the embedded corpus, or the data that `recipe.data` names."""

    train: str | None = None  # relative to the folder that holds the data
    dev: str | None = None
    test: str | None = None
    source: str | None = None  # training file of a source domain; train, dev and test are then the target domain's
    seeds: Seeds | None = None  # instead of the table's
    metric: Literal["accuracy", "f1"] = "accuracy"
    positive: str | None = None  # the F1 is of this label
    rows: dict[str, Partial] = {}  # added to the recipes of some methods; a key such as "eda|no-*" names several
    group: Name | None = None  # each group of columns has an average; columns without a group then have none

    @field_validator("rows")
    @classmethod
    def _check_rows(cls, value: dict[str, Partial]) -> dict[str, Partial]:
        return {methods: _without_reserved(part) for methods, part in value.items()}

    @model_validator(mode="after")
    def _check_files(self) -> Column:
        if self.train is None and (self.dev or self.test or self.source):
            raise ValueError("dev, test and source need train")
        if (self.metric == "f1") != (self.positive is not None):
            raise ValueError('metric = "f1" and positive, the label whose F1 is meant, belong together')
        return self


class Row(_RecipePart):
    """One method."""

    # The row has no student: it is the teacher itself, the linear model on n-grams, or logistic regression on the mean or the
    # [CLS] state of the teacher's encoder before any fine-tuning.
    stop: Literal["teacher", "linear", "frozen"] | None = None
    data: list[str] | None = None  # only on these columns; None: on all
    searched_on: str | None = None  # a column: every run takes the architecture that a search on it finds

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions of this method's runs. What is no student has no INT8 form."""
        return PRECISIONS[:1] if self.stop else PRECISIONS


class Run(BaseModel):
    """One training: a method on a data set with a seed."""

    model_config = ConfigDict(frozen=True)

    method: str
    data: str
    seed: int

    def __str__(self) -> str:
        return f"{self.method} · {self.data} · seed {self.seed}"


class Table(_Part):
    """`recipes/tables/NAME.toml`. Methods and data sets are shown in the order of the file."""

    name: Name  # the file's name without .toml
    title: str
    note: str = ""
    seeds: Seeds = [0]
    precisions: Annotated[list[Literal["fp32", "int8"]], Field(min_length=1)] = ["fp32", "int8"]
    against: Name | None = None  # the other rows are compared with this one, run by run
    base: Partial = {}  # part of the recipes of all runs
    data: Annotated[dict[Name, Column], Field(min_length=1)]
    method: Annotated[dict[Name, Row], Field(min_length=1)]

    @field_validator("base")
    @classmethod
    def _check_base(cls, value: Partial) -> Partial:
        return _without_reserved(value)

    @model_validator(mode="after")
    def _check_names(self) -> Table:
        if self.against is not None and self.against not in self.method:
            raise ValueError(f"against: no row {self.against!r}; there are {', '.join(self.method)}")
        for data, column in self.data.items():
            for pattern in (part for methods in column.rows for part in methods.split("|")):
                if not any(_named(name, pattern) for name in self.method):
                    raise ValueError(f"data.{data}.rows: no row {pattern!r}; there are {', '.join(self.method)}")
        for name, row in self.method.items():
            if unknown := set(row.data or ()) - set(self.data):
                raise ValueError(f"method.{name}.data: no column {min(unknown)!r}; there are {', '.join(self.data)}")
            if not set(row.precisions) & set(self.precisions):
                raise ValueError(f"method.{name}.stop: a {row.stop} model is not quantised; add fp32 to precisions")
            f1 = [data for data in row.data or self.data if self.data[data].metric == "f1"]
            if row.stop in ("linear", "frozen") and f1:
                raise ValueError(
                    f"method.{name}.stop: of a {row.stop} model only the accuracy is known, not the F1 of {f1[0]}"
                )
            if row.searched_on is not None and row.searched_on not in self.data:
                raise ValueError(
                    f"method.{name}.searched_on: no column {row.searched_on!r}; there are {', '.join(self.data)}"
                )
            if row.searched_on is not None and row.stop:
                raise ValueError(f"method.{name}.searched_on: a teacher has no searched architecture")
        return self

    def runs(self) -> Iterator[Run]:
        """All runs, column by column and seed by seed. So runs with the same teacher are neighbours."""
        for data in self.data:
            for seed in self.seeds_of(data):
                for method, row in self.method.items():
                    if row.data is None or data in row.data:
                        yield Run(method=method, data=data, seed=seed)

    def seeds_of(self, data: str) -> list[int]:
        """The seeds of a column, without repetition."""
        return list(dict.fromkeys(self.data[data].seeds or self.seeds))

    def precisions_of(self, method: str) -> list[str]:
        """The precisions that this method's runs report, of those that the table shows."""
        return [precision for precision in self.precisions if precision in self.method[method].precisions]

    def shown_precision(self, method: str) -> str:
        """The precision of a method's cells: the table's first one, if the method has it."""
        return self.precisions_of(method)[0]

    def row_of(self, stop: Literal["teacher", "linear"]) -> str | None:
        """The first row that is this model; None if there is none."""
        return next((name for name, row in self.method.items() if row.stop == stop), None)

    def metric(self, data: str, precision: str) -> str:
        """Name of a column's metric at a precision: `accuracy`, `int8_accuracy`, `f1` or `int8_f1`."""
        return ("" if precision == "fp32" else f"{precision}_") + self.data[data].metric

    def metrics_of(self, run: Run) -> list[str]:
        """The metrics of a run, one for each precision."""
        return [self.metric(run.data, precision) for precision in self.precisions_of(run.method)]

    def recipe(self, run: Run, folder: Path | None) -> Recipe:
        """The recipe of a run.

        It is merged from these parts, of which a later one wins: name, seed and files; `base`; the column's `recipe`; the
        method's `recipe`; the column's `rows` for that method.

        The seed also chooses the sample of texts, if the data are cut. A source domain's sample is the same for all seeds.
        So a model that learns from texts alone, such as a language model, is made only once.

        :param folder: the folder with the columns' files.
        :raises UserError: the column has files but there is no folder, a file is missing, or the recipe is wrong.
        """
        column = self.data[run.data]
        files = self._files(run.data, folder)
        start = {
            "name": f"{self.name}-{run.data}-{run.seed}-{run.method}",
            "seed": run.seed,
            "data": {"source": "files" if files else "embedded", "sample": run.seed, **_splits(files)},
        }
        further = [part for methods, part in column.rows.items() if _named(run.method, methods)]
        parts = [start, self.base, column.recipe, self.method[run.method].recipe, *further]
        if column.source:
            source = {"data": {"source": {"train": files.pop("source")}}}
            parts = [source, *(_for_target(part) for part in parts)]
        recipe = recipe_from(reduce(deep_merge, parts), f"table {self.name}, method.{run.method}, data.{run.data}")
        if recipe.domains.students == "per-domain":
            raise UserError(
                f"table {self.name}, method.{run.method}: domains.students: a run is one student; make a column of each "
                "domain with domains.student"
            )
        if "int8" in self.precisions_of(run.method) and "int8" not in recipe.export.precisions:
            raise UserError(
                f"table {self.name}, method.{run.method}: export.precisions: without int8 the table's INT8 column stays empty"
            )
        return recipe

    def search_of(self, run: Run) -> Run | None:
        """The run whose search finds the architecture for this run. None: the run searches itself, or not at all.

        It has the same method and seed, on the column `searched_on`. It may be a run that the table does not have.
        """
        column = self.method[run.method].searched_on
        return None if column is None else run.model_copy(update={"data": column})

    def search_recipe(self, run: Run, folder: Path | None) -> Recipe | None:
        """The recipe of the run `search_of`; None if there is none.

        :raises UserError: as `recipe`; or that recipe does not search.
        """
        origin = self.search_of(run)
        if origin is None:
            return None
        recipe = self.recipe(origin, folder)
        if getattr(recipe.student, "architecture", None) != "searched":
            raise UserError(
                f"table {self.name}, method.{run.method}: searched_on: its student is not searched; "
                'set student.kind = "cnn" and no other architecture'
            )
        return recipe

    def _files(self, data: str, folder: Path | None) -> dict[str, str]:
        named = {key: path for key in (*SPLITS, "source") if (path := getattr(self.data[data], key))}
        if named and folder is None:
            raise UserError(
                f"data.{data}.train: {named['train']} is a file; name the folder that holds it with --data DIR"
            )
        paths = {split: (folder or Path()) / path for split, path in named.items()}
        for split, path in paths.items():
            if not path.is_file():
                raise UserError(f"data.{data}.{split}: {path}: no such file; is --data the folder that holds it?")
        return {split: str(path.absolute()) for split, path in paths.items()}


def load_table(name: str) -> Table:
    """Read and validate a table.

    :param name: name of a file in `recipes/tables`, or path of a .toml file.
    :raises UserError: there is no such table, it is not TOML, or it has an unknown key or a wrong value. The message
        names file and key.
    """
    path = Path(name) if name.endswith(".toml") else TABLES / f"{name}.toml"
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        there = ", ".join(sorted(file.stem for file in TABLES.glob("*.toml"))) or "none here"
        raise UserError(f"{path}: no such table; there are: {there}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path}: not valid TOML: {error}") from None
    if "name" in content:
        raise UserError(f"{path}: name: a table is named after its file")
    try:
        return Table.model_validate({"name": path.stem, **content})
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        key = ".".join(part for part in map(str, first["loc"]) if part != "[key]")
        message = "unknown key" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
        raise UserError(f"{path}: {f'{key}: ' if key else ''}{message}") from None


def deep_merge(low: Partial, high: Partial) -> Partial:
    """Merge two nested tables into a new one. Values of `high` win; tables that are in both are merged in the same way."""
    merged = dict(low)
    for key, value in high.items():
        both = isinstance(value, dict) and isinstance(low.get(key), dict)
        merged[key] = deep_merge(low[key], value) if both else value
    return merged


def _splits(files: dict[str, str]) -> dict[str, str]:
    return {split: path for split, path in files.items() if split in SPLITS}


def _for_target(part: Partial) -> Partial:
    """The part of a recipe, with the keys of its `[data]` moved to `[data.target]`."""
    data = part.get("data")
    if not isinstance(data, dict):
        return part
    target = {key: value for key, value in data.items() if key != "target" and not isinstance(value, dict)}
    domains = {key: value for key, value in data.items() if key == "source" and isinstance(value, dict)}
    return {**part, "data": {"target": {**target, **data.get("target", {})}, **domains}}


def select(runs: list[Run], only: str) -> list[Run]:
    """The runs that `only` selects.

    :param only: `method=…,data=…,seed=…`; each part is optional, `|` separates values, `*` stands for any characters.
    :raises UserError: a part is not of this form, or no run has the value.
    """
    for part in filter(None, (part.strip() for part in only.split(","))):
        key, equals, values = part.partition("=")
        if not equals or key not in Run.model_fields:
            raise UserError(f"--only {part}: write it as method=NAME,data=NAME,seed=N, each part optional")
        for pattern in values.split("|"):
            if not any(_named(str(getattr(run, key)), pattern) for run in runs):
                there = ", ".join(dict.fromkeys(str(getattr(run, key)) for run in runs))
                raise UserError(f"--only {key}={pattern}: no such {key}; there are {there}")
        runs = [run for run in runs if _named(str(getattr(run, key)), values)]
    return runs


def _named(value: str, patterns: str) -> bool:
    """Whether one of the patterns, which `|` separates, matches the value. `*` stands for any characters."""
    return any(fnmatchcase(value, pattern) for pattern in patterns.split("|"))


def _without_reserved(part: Partial) -> Partial:
    """Refuse keys that only the table itself may set.

    :raises ValueError: there is such a key; the message names it.
    """
    data = part.get("data")
    found: list[str] = [key for key in ("name", "seed") if key in part]
    found += [f"data.{split}" for split in SPLITS if isinstance(data, dict) and split in data]
    found += [
        f"data.{domain}.{split}"
        for domain in ("target", "source")
        for split in SPLITS
        if isinstance(data, dict) and isinstance(data.get(domain), dict) and split in data[domain]
    ]
    if found:
        raise ValueError(f"{found[0]} is set by the table: files and seeds stand in [data.NAME], seeds at the top too")
    return part
