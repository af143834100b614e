"""Reading a recipe: TOML, overrides, validation, and error messages with the line of the file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from compress.recipe.presets import AXES, fill_in
from compress.recipe.schema import Recipe
from compress.recipe.sections import (
    SPECIAL_NAMES,
    Content,
    Section,
    TextOptions,
    TwoDomainOptions,
)
from compress.recipe.sections.data import DELIMITED, JSON_LINES
from compress.runtime.errors import UserError

S = TypeVar("S", bound=Section)
_SEVERAL_FORMS = {"data", *AXES}  # sections whose keys depend on one of their settings
_OF_THE_STUDENT = ("student", "objective", "compress", "search")  # sections that fit one kind of student only


def load_recipe(path: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Read and validate a recipe.

    :param path: a TOML file. A relative path in it starts at the folder of the file.
    :param overrides: settings from the command line, `section.key=value`. The value is TOML. If it is not valid TOML, it
        is taken as a string. A relative path in it starts at the working directory.
    :raises UserError: the file does not exist or is not TOML, a key is unknown, or a value is wrong. The message names the
        line of the file, or the override.
    """
    path = Path(path)
    table, text = _read(path)
    overridden = [_apply_override(table, item) for item in overrides or []]
    return _validate(table, str(path), text, path.parent, overridden)


def load_variant(path: Path, overrides: list[str], changes: list[str]) -> Recipe:
    """A recipe with another student on the same task: same texts, same teacher, same augmentation.

    :param path: as for `load_recipe`.
    :param overrides: as for `load_recipe`; they belong to the recipe itself.
    :param changes: the settings of the variant, in the same form. If they choose another kind of student, the recipe's own
        `student`, `objective`, `compress` and `search` do not count, since they are for another network.
    :raises UserError: as `load_recipe`.
    """
    base = load_recipe(path, overrides)
    table, text = _read(path)
    overridden = [_apply_override(table, item) for item in overrides]
    own: dict[str, Any] = {}
    changed = [_apply_override(own, item) for item in changes]
    student = own.get("student", {})
    if isinstance(student, dict) and student.get("kind", base.student.kind) != base.student.kind:
        table = {name: value for name, value in table.items() if name not in _OF_THE_STUDENT}
        table["teacher"] = {**table.get("teacher", {}), "method": base.teacher.method}  # a preset may have chosen it
        table["augmentation"] = base.augmentation.model_dump(mode="json", exclude_none=True)
    for item in changes:
        _apply_override(table, item)
    if "search" not in own and not _is_searched(table):
        table.pop("search", None)
    return _validate(table, str(path), text, path.parent, [*overridden, *changed])


def recipe_from(table: dict[str, Any], place: str) -> Recipe:
    """Validate a recipe that is given as a table. A relative path in it starts at the working directory.

    :param place: where the table comes from, for the error message.
    :raises UserError: a key is unknown or a value is wrong.
    """
    return _validate(table, place, "", Path.cwd(), [])


def _read(path: Path) -> tuple[dict[str, Any], str]:
    """The table and the text of a recipe's file."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        table = tomllib.loads(text)
    except FileNotFoundError:
        raise UserError(f"{path}: no such recipe; `pocketbert init DATA.csv` writes one for your table") from None
    except UnicodeDecodeError as error:
        _refuse_table(path)
        raise UserError(f"{path}: not in UTF-8 ({error}); save it in this encoding") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a directory; name the recipe in it, a TOML file") from None
    except OSError as error:
        raise UserError(f"{path}: not a readable text file ({error})") from None
    except (
        ValueError,
        RecursionError,
    ) as error:  # also numbers of thousands of digits, and arrays of thousands of levels
        _refuse_table(path)
        fault = error if isinstance(error, tomllib.TOMLDecodeError) else "a number is too long, or arrays are too deep"
        raise UserError(f"{path}: not valid TOML: {fault}") from None
    table.setdefault("name", path.stem)
    return table, text


def _refuse_table(path: Path) -> None:
    """See that a file that is no recipe is not a table by its name.

    :raises UserError: it is.
    """
    if any(suffix.lower() in (*DELIMITED, *JSON_LINES, ".parquet") for suffix in path.suffixes):
        raise UserError(f"{path}: is a table; `pocketbert init {path}` writes a recipe for it")


def _is_searched(table: dict[str, Any]) -> bool:
    """Whether the student's architecture is searched, or random with a limited cost: only then a recipe may have `search`."""
    student = fill_in(table)["student"]
    return not isinstance(student, dict) or (
        student.get("kind") == "cnn" and student.get("architecture", "searched") in ("searched", "random")
    )


def _validate(table: dict[str, Any], place: str, text: str, folder: Path, overridden: list[str]) -> Recipe:
    try:
        recipe = Recipe.model_validate(fill_in(table))
    except ValidationError as error:
        raise UserError(_describe(error, place, text, overridden)) from None
    return _resolve_paths(recipe, folder, overridden)


def _apply_override(table: dict[str, Any], item: str) -> str:
    """Write one override into the table.

    :returns: the dotted key of the override.
    """
    key, equals, value = item.partition("=")
    key = key.strip()
    *sections, last = key.split(".")
    if not equals or not last or not all(sections):
        raise UserError(f"--set {item}: write it as section.key=value, e.g. --set compress.epochs=3")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    for number, section in enumerate(sections, start=1):
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise UserError(f"--set {item}: {'.'.join(sections[:number])} is a value, not a section")
    table[last] = parsed
    return key


def _describe(error: ValidationError, path: str, text: str, overridden: list[str]) -> str:
    """The first validation error in one line, with the line of the recipe or the override that causes it."""
    errors = error.errors(include_url=False)
    # Of a setting that may have several types each has its error; that of the type which fits best lies deepest.
    first = max((one for one in errors if _setting(one) == _setting(errors[0])), key=lambda one: len(one["loc"]))
    named = [part for part in first["loc"] if isinstance(part, str)]
    # pydantic adds the name of the form after a section that has several forms. The recipe's text has no such name.
    location = named[:1] + named[2:] if named and named[0] in _SEVERAL_FORMS else named
    location = list(takewhile(lambda part: "[" not in part, location))  # a part such as "literal[...]" names a type
    message = first["msg"].removeprefix("Value error, ")
    if (found := re.match(r"([a-z_.]+): (.*)", message, re.DOTALL)) and found[1].split(".")[0] in Recipe.model_fields:
        location, message = found[1].split("."), found[2]  # a check of several settings names the key in its message
    elif found and isinstance(first["input"], dict) and found[1] in _known_keys(named):
        location, message = [*location, found[1]], found[2]
    if first["type"] == "extra_forbidden":
        message = f"unknown key; known here: {', '.join(_known_keys(named[:-1]))}"
    elif first["type"] == "union_tag_invalid":
        location = [*location, AXES[location[0]]]
        message = f"must be one of {first['ctx']['expected_tags']}, got {first['ctx']['tag']!r}"
    elif first["type"] in ("model_type", "model_attributes_type"):
        message = f"must be a section, got {first['input']!r}"
    elif not isinstance(first["input"], dict):
        message = f"{message}, got {first['input']!r}"
    more = len({_setting(one) for one in errors}) - 1
    place = _place(path, text, location, overridden)
    return f"{place}: {message}" + (f" (and {more} more)" if more else "")


def _setting(error: ErrorDetails) -> tuple[str | int, ...]:
    """The place of an error, without the type that it is about if a setting may have several."""
    return tuple(takewhile(lambda part: isinstance(part, str) and "[" not in part, error["loc"]))


def _place(path: str, text: str, location: list[str], overridden: list[str]) -> str:
    """Where a setting comes from: the override of it or of its section, else the line of the file.

    A mistake in a whole section may come from an override of one of its keys. That is said if the file has no such section.
    """
    key = ".".join(location)
    for override in reversed(overridden):  # the last one wins
        if override == key:
            return f"--set {key}"
        if _is_within(key, override):
            return f"--set {override}: {key}"
    line = _line_of(text, location)
    if not line and (inside := [override for override in overridden if _is_within(override, key)]):
        return f"--set {inside[-1]}: {key}"
    return f"{path}{line}: {key or 'recipe'}"


def _is_within(key: str, section: str) -> bool:
    """Whether a dotted key is the section, or a setting in it."""
    return f"{key}.".startswith(f"{section}.")


def _known_keys(location: list[str]) -> list[str]:
    """The keys of a section.

    :param location: of the section, as pydantic gives it: the name of the form follows a section that has several forms.
    """
    parts = iter(location)
    model: type[BaseModel] = Recipe
    for name in parts:
        annotation = model.model_fields[name].annotation
        forms = [form for form in _forms(annotation) if issubclass(form, BaseModel)]
        tag = next(parts) if len(forms) > 1 else ""
        model = next(form for form in forms if not tag or _tag(form) == tag)
    return list(model.model_fields)


def _forms(annotation: Any) -> Iterator[type]:
    """The classes in a type annotation, also those inside `Annotated` and unions."""
    if isinstance(annotation, type):
        yield annotation
    for part in get_args(annotation):
        yield from _forms(part)


def _tag(form: type[BaseModel]) -> str:
    """The name that pydantic gives this form of a section in the location of an error."""
    if issubclass(form, TextOptions):
        return "single"
    if form is TwoDomainOptions:
        return "domains"
    return next(str(form.model_fields[tag].default) for tag in AXES.values() if tag in form.model_fields)


def _line_of(text: str, location: list[str]) -> str:
    """`:N`, the line of the recipe that sets `location`.

    If no line does, it is the line of the innermost section or inline table around it, or "" if there is none.
    """
    section: list[str] = []
    best, depth = "", 0
    for number, line in enumerate(text.split("\n"), 1):
        if header := re.match(r"\s*\[{1,2}([\w\s.\"'-]+)\]{1,2}\s*(#.*)?$", line):
            section = path = _key_parts(header[1])
        elif setting := re.match(r"\s*([\w\s.\"'-]+?)\s*=", line):
            path = section + _key_parts(setting[1])
        else:
            continue
        if location and path[: len(location)] == location:
            return f":{number}"
        if path == location[: len(path)] and len(path) > depth:
            best, depth = f":{number}", len(path)
    return best


def _key_parts(key: str) -> list[str]:
    return [part.strip().strip("\"'") for part in key.split(".")]


def _resolve_paths(recipe: Recipe, folder: Path, overridden: list[str]) -> Recipe:
    """Make the paths of tables, models and genotypes absolute.

    A path in the file starts at the folder of the file. A path in an override starts at the working directory.
    """

    def resolved(section: S, place: str) -> S:
        updates: dict[str, Any] = {}
        for name, content in type(section).contents().items():
            if (value := getattr(section, name)) is not None:
                start = Path() if any(_is_within(f"{place}{name}", key) for key in overridden) else folder
                absolute = _content_path(content, value, (start / _expanded(value, f"{place}{name}")).absolute())
                if absolute != value:
                    updates[name] = absolute
        for name in type(section).model_fields:
            inner = getattr(section, name)
            if isinstance(inner, Section) and (new := resolved(inner, f"{place}{name}.")) is not inner:
                updates[name] = new
        return section.model_copy(update=updates) if updates else section

    return resolved(recipe, "")


def _expanded(value: str | Path, key: str) -> Path:
    """The path with the home directory in the place of a leading ~ or ~user.

    :raises UserError: there is no such user, or this one has no home directory.
    """
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        raise UserError(f"{key}: {value}: {str(error).rstrip('.').lower()}; write the whole path") from None


def _content_path(kind: Content, value: str | Path, absolute: Path) -> str | Path:
    """The value of a setting that names something outside the recipe. It becomes the absolute path if it is a path."""
    if kind is Content.FILE:
        return absolute
    if value in SPECIAL_NAMES[kind]:
        return value
    may_be_an_id = kind in (Content.MODEL, Content.INIT, Content.DATASET)
    return value if may_be_an_id and not absolute.is_dir() else str(absolute)
