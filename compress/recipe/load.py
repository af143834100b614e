"""Reading a recipe: TOML, overrides, validation, and errors that name the line."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from compress.recipe.presets import AXES, fill_in
from compress.recipe.schema import Recipe
from compress.recipe.sections import SPECIAL_ARCHITECTURES, SPECIAL_INITS, CnnOptions, TransformerOptions
from compress.runtime.errors import UserError


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
    return _validate(table, str(path), text, path.parent, overridden)


def recipe_from(table: dict[str, Any], place: str) -> Recipe:
    """Validate a recipe given as a plain table; relative data paths are relative to the working directory.

    :param place: where the table comes from, for the message.
    :raises UserError: an unknown key or a wrong value.
    """
    return _validate(table, place, "", Path.cwd(), [])


def _validate(table: dict[str, Any], place: str, text: str, folder: Path, overridden: list[str]) -> Recipe:
    try:
        recipe = Recipe.model_validate(fill_in(_split_domains(table)))
    except ValidationError as error:
        raise UserError(_describe(error, place, text, overridden, _domains_of(table))) from None
    except UserError as error:
        raise UserError(f"{place}: {error}") from None
    return _resolve_paths(recipe, folder, overridden)


def _domains_of(table: dict[str, Any]) -> bool:
    """Whether `data` is two tables, target and source, and not one."""
    data = table.get("data")
    return isinstance(data, dict) and ("target" in data or isinstance(data.get("source"), dict))


def _split_domains(table: dict[str, Any]) -> dict[str, Any]:
    """The table with `data.target` as `data` and `data.source` as `source`, where there are two.

    :raises UserError: the two ways of writing are mixed, or the kind of the source's texts is not told.
    """
    if "source" in table:
        raise UserError("source: unknown key; a source domain is written [data.source], beside [data.target]")
    if not _domains_of(table):
        return table
    data = dict(table["data"])
    domains = {name: data.pop(name, None) for name in ("target", "source")}
    if data:
        raise UserError(f"data.{min(data)}: beside [data.source], the target's keys stand in [data.target]")
    for name, options in domains.items():
        if not isinstance(options, dict):
            raise UserError(
                f"data.{name}: [data.target] and [data.source] are two tables; without a source write [data]"
            )
    source = domains["source"]
    if source.keys().isdisjoint(("source", "train", "hub")):
        raise UserError('data.source: say where its texts are: train, a file; hub, an id; or source = "embedded"')
    target, source = (_with_kind(options) for options in domains.values())
    return {**table, "data": target, "source": source}


def _with_kind(options: dict[str, Any]) -> dict[str, Any]:
    """A domain says by the key it has whether its texts are in files or on the hub."""
    kind = "files" if "train" in options else "hub" if "hub" in options else "embedded"
    return {"source": kind, **options}


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


def _describe(error: ValidationError, path: str, text: str, overridden: list[str], domains: bool) -> str:
    """The first validation error in one line, with the line of the recipe (or the flag) that holds it."""
    first = error.errors(include_url=False)[0]
    named = [part for part in first["loc"] if isinstance(part, str)]
    # Where a section has several forms, pydantic names the form after the section; the recipe's text does not.
    location = named[:1] + named[2:] if named and named[0] in AXES else named
    if domains and named and named[0] in ("data", "source"):
        location = {"data": ["data", "target"], "source": ["data", "source"]}[named[0]] + named[1:]
    message = first["msg"].removeprefix("Value error, ")
    if not location and (
        found := re.match(r"([\w.]+): (.*)", message, re.DOTALL)
    ):  # a check across sections names its key
        location, message = found[1].split("."), found[2]
    key = ".".join(location)
    if first["type"] == "extra_forbidden":
        message = f"unknown key; known here: {', '.join(_known_keys(named))}"
    elif first["type"] == "union_tag_invalid":
        key, message = (
            f"{key}.{AXES[key]}",
            f"must be one of {first['ctx']['expected_tags']}, got {first['ctx']['tag']!r}",
        )
        location = key.split(".")
    elif not isinstance(first["input"], dict):
        message = f"{message}, got {first['input']!r}"
    place = f"--set {key}" if key in overridden else f"{path}{_line_of(text, location)}: {key or 'recipe'}"
    more = len(error.errors()) - 1
    return f"{place}: {message}" + (f" (and {more} more)" if more else "")


def _known_keys(location: list[str]) -> list[str]:
    """Keys of the section that holds the one at `location`; of a section with several forms, of the form named."""
    if len(location) < 2:
        return [name for name in Recipe.model_fields if name != "source"]  # which is a part of data
    annotation = Recipe.model_fields[location[0]].annotation
    forms: tuple[type[BaseModel], ...] = get_args(annotation) or (annotation,)
    if location[0] not in AXES:
        return list(forms[0].model_fields)
    form = next(f for f in forms if f.model_fields[AXES[location[0]]].default == location[1])
    if len(location) > 3:  # a table in the section
        form = form.model_fields[location[2]].annotation  # type: ignore[assignment]
    return list(form.model_fields)


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
    """Make data paths and model directories absolute: those of the file against its folder, those of a flag against the cwd."""

    def resolve(key: str, value: Path) -> Path:
        return (value if key in overridden else folder / value.expanduser()).absolute()

    tables = {
        name: resolve(f"data.target.{name}" if recipe.source else f"data.{name}", value)
        for name in ("train", "dev", "test", "unlabelled")
        if (value := getattr(recipe.data, name))
    }
    updates: dict[str, BaseModel] = {"data": recipe.data.model_copy(update=tables)}
    if recipe.source and recipe.source.train:
        train = resolve("data.source.train", recipe.source.train)
        updates["source"] = recipe.source.model_copy(update={"train": train})
    directory = resolve("teacher.model", Path(recipe.teacher.model))
    if recipe.teacher.model != "embedded" and directory.is_dir():
        updates["teacher"] = recipe.teacher.model_copy(update={"model": str(directory)})
    if isinstance(recipe.student, TransformerOptions) and recipe.student.init not in SPECIAL_INITS:
        directory = resolve("student.init", Path(recipe.student.init))
        if directory.is_dir():
            updates["student"] = recipe.student.model_copy(update={"init": str(directory)})
    if isinstance(recipe.student, CnnOptions) and recipe.student.architecture not in SPECIAL_ARCHITECTURES:
        file = resolve("student.architecture", Path(recipe.student.architecture))
        updates["student"] = recipe.student.model_copy(update={"architecture": str(file)})
    return recipe.model_copy(update=updates)
