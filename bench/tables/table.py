"""A table's file: which methods on which data with which seeds, and the recipe of each run."""

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
PRECISIONS = ("fp32", "int8")  # of the student; a teacher is fp32
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Seeds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
Partial = dict[str, Any]  # a recipe's table, or a part of one


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _RecipePart(_Part):
    """What a row or a column adds to the recipe."""

    note: str = ""  # shown under the table
    recipe: Partial = {}

    @field_validator("recipe")
    @classmethod
    def _check(cls, value: Partial) -> Partial:
        return _without_reserved(value)


class Column(_RecipePart):
    """One data set. Without `train` it is the embedded corpus, or what `recipe.target` says."""

    train: str | None = None  # relative to the folder that holds the data
    dev: str | None = None
    test: str | None = None
    source: str | None = None  # the training table of a source domain; the others are then the target's
    seeds: Seeds | None = None  # instead of the table's
    metric: Literal["accuracy", "f1"] = "accuracy"
    positive: str | None = None  # the label whose F1 is meant
    rows: dict[str, Partial] = {}  # what it adds to the recipes of some methods; "eda|no-*" names three or more
    group: Name | None = None  # columns of a group have an average of their own; if any has one, the rest have none

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

    stop: Literal["teacher"] | None = None  # the row is the teacher itself: nothing is compressed
    data: list[str] | None = None  # only on these columns
    searched_on: str | None = None  # a column: every run takes the architecture that its recipe finds there

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions that a run of this method has; the teacher has no INT8 form."""
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
    """`recipes/tables/NAME.toml`; methods and data are shown in the order of the file."""

    name: Name  # the file's
    title: str
    note: str = ""
    seeds: Seeds = [0]
    precisions: Annotated[list[Literal["fp32", "int8"]], Field(min_length=1)] = ["fp32", "int8"]
    against: Name | None = None  # the row that the others are compared with, run by run
    base: Partial = {}  # what the recipes of all runs share
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
                raise ValueError(f"method.{name}.stop: a teacher is not quantised; add fp32 to precisions")
            if row.searched_on is not None and row.searched_on not in self.data:
                raise ValueError(
                    f"method.{name}.searched_on: no column {row.searched_on!r}; there are {', '.join(self.data)}"
                )
            if row.searched_on is not None and row.stop:
                raise ValueError(f"method.{name}.searched_on: a teacher has no searched architecture")
        return self

    def runs(self) -> Iterator[Run]:
        """All runs, column by column and seed by seed, so that methods that share a teacher follow each other."""
        for data in self.data:
            for seed in self.seeds_of(data):
                for method, row in self.method.items():
                    if row.data is None or data in row.data:
                        yield Run(method=method, data=data, seed=seed)

    def seeds_of(self, data: str) -> list[int]:
        """The seeds of a column, each once."""
        return list(dict.fromkeys(self.data[data].seeds or self.seeds))

    def precisions_of(self, method: str) -> list[str]:
        """The table's precisions that runs of this method report."""
        return [precision for precision in self.precisions if precision in self.method[method].precisions]

    def metric(self, data: str, precision: str) -> str:
        """Name of a column's metric at a precision: `accuracy`, `int8_accuracy`, `f1` or `int8_f1`."""
        return ("" if precision == "fp32" else f"{precision}_") + self.data[data].metric

    def metrics_of(self, run: Run) -> list[str]:
        """The metrics that a run reports, one a precision."""
        return [self.metric(run.data, precision) for precision in self.precisions_of(run.method)]

    def recipe(self, run: Run, folder: Path | None) -> Recipe:
        """The recipe of a run: what runs have in common, then `base`, the column's part, the method's, the column's for that method.

        A seed also chooses the sample of texts where the data are cut; a source domain's sample is the same for all seeds,
        for what is learned from texts alone, like a language model, is then made once.

        :param folder: holds the columns' files.
        :raises UserError: no folder though there are files, a file is missing, a wrong recipe.
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
        """The run whose search gives this run its architecture: that of the same method on the row's `searched_on`.

        It has the seed of this run, and need not be one of the table's runs.
        """
        column = self.method[run.method].searched_on
        return None if column is None else run.model_copy(update={"data": column})

    def search_recipe(self, run: Run, folder: Path | None) -> Recipe | None:
        """The recipe of `search_of`.

        :raises UserError: as `recipe`, or that recipe does not search.
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

    :param name: of a file in `recipes/tables`, or the path of a .toml file.
    :raises UserError: no such table, no TOML, an unknown key or a wrong value; the message names file and key.
    """
    path = Path(name) if name.endswith(".toml") else TABLES / f"{name}.toml"
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
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
    """Both tables in a new one; `high` wins, and tables that both have are merged in turn."""
    merged = dict(low)
    for key, value in high.items():
        both = isinstance(value, dict) and isinstance(low.get(key), dict)
        merged[key] = deep_merge(low[key], value) if both else value
    return merged


def _splits(files: dict[str, str]) -> dict[str, str]:
    return {split: path for split, path in files.items() if split in SPLITS}


def _for_target(part: Partial) -> Partial:
    """The part of a recipe, its plain [data] written as that of the target."""
    data = part.get("data")
    if not isinstance(data, dict):
        return part
    target = {key: value for key, value in data.items() if key != "target" and not isinstance(value, dict)}
    domains = {key: value for key, value in data.items() if key == "source" and isinstance(value, dict)}
    return {**part, "data": {"target": {**target, **data.get("target", {})}, **domains}}


def select(runs: list[Run], only: str) -> list[Run]:
    """The runs that `only` names: `method=…,data=…,seed=…`, each part optional, `|` between values, `*` in them.

    :raises UserError: a part that is none of these, or a value that no run has.
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
    """Whether one of the patterns, `|` between them and `*` in them, is this value."""
    return any(fnmatchcase(value, pattern) for pattern in patterns.split("|"))


def _without_reserved(part: Partial) -> Partial:
    """Refuse what the table decides itself.

    :raises ValueError: with the key.
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
