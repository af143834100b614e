"""Reading a recipe: TOML, overrides, validation, and errors that name the line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from compress.recipe.presets import AXES, fill_in
from compress.recipe.schema import Recipe
from compress.recipe.sections import (
    SPECIAL_ARCHITECTURES,
    SPECIAL_INITS,
    Content,
    Section,
    TextOptions,
    TwoDomainOptions,
)
from compress.runtime.errors import UserError

_SEVERAL_FORMS = {"data", *AXES}
SPECIAL_MODELS = ("embedded", *SPECIAL_INITS)


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
        recipe = Recipe.model_validate(fill_in(table))
    except ValidationError as error:
        raise UserError(_describe(error, place, text, overridden)) from None
    return _resolve_paths(recipe, folder, overridden)


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


def _describe(error: ValidationError, path: str, text: str, overridden: list[str]) -> str:
    """The first validation error in one line, with the line of the recipe (or the flag) that holds it."""
    first = error.errors(include_url=False)[0]
    named = [part for part in first["loc"] if isinstance(part, str)]
    # Where a section has several forms, pydantic names the form after the section; the recipe's text does not.
    location = named[:1] + named[2:] if named and named[0] in _SEVERAL_FORMS else named
    message = first["msg"].removeprefix("Value error, ")
    if found := re.match(r"([a-z_]+(?:\.[a-z_]+)+): (.*)", message, re.DOTALL):  # a check of several keys names its key
        location, message = found[1].split("."), found[2]
    key = ".".join(location)
    if first["type"] == "extra_forbidden":
        message = f"unknown key; known here: {', '.join(_known_keys(named[:-1]))}"
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
    """Keys of the section at `location`, in which a section of several forms is followed by the name of its form."""
    parts = iter(location)
    model: type[BaseModel] = Recipe
    for name in parts:
        annotation = model.model_fields[name].annotation
        forms = [form for form in _forms(annotation) if issubclass(form, BaseModel)]
        tag = next(parts) if len(forms) > 1 else ""
        model = next(form for form in forms if not tag or _tag(form) == tag)
    return list(model.model_fields)


def _forms(annotation: Any) -> Iterator[type]:
    """The classes in a type, unions and annotations taken apart."""
    if isinstance(annotation, type):
        yield annotation
    for part in get_args(annotation):
        yield from _forms(part)


def _tag(form: type[BaseModel]) -> str:
    """What pydantic calls this form of a section in an error's location."""
    if issubclass(form, TextOptions):
        return "single"
    if form is TwoDomainOptions:
        return "domains"
    return next(str(form.model_fields[tag].default) for tag in AXES.values() if tag in form.model_fields)


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
    """Make paths of tables, models and genotypes absolute: those in the file start at its folder, those of a flag at the cwd."""

    def resolved(section: Section, place: str) -> Section:
        updates: dict[str, Any] = {}
        for name, content in type(section).contents().items():
            if (value := getattr(section, name)) is not None:
                start = Path() if f"{place}{name}" in overridden else folder
                updates[name] = _content_path(content, value, (start / Path(value).expanduser()).absolute())
        for name in type(section).model_fields:
            inner = getattr(section, name)
            if isinstance(inner, Section) and (new := resolved(inner, f"{place}{name}.")) is not inner:
                updates[name] = new
        return section.model_copy(update=updates) if updates else section

    whole = resolved(recipe, "")
    assert isinstance(whole, Recipe), "a copy"
    return whole


def _content_path(kind: Content, value: str | Path, absolute: Path) -> str | Path:
    """A setting that names something outside the recipe, with its absolute path where it is one."""
    if kind is Content.FILE:
        return absolute
    if kind is Content.GENOTYPE:
        return value if value in SPECIAL_ARCHITECTURES else str(absolute)
    return str(absolute) if value not in SPECIAL_MODELS and absolute.is_dir() else value
