"""The settings of a recipe by dotted key, and copies of a recipe that have some of the settings only.

The keys are those of the attributes in code: `target.max_length`, `source.relabel`, `teacher.epochs`, `seed`. In the file of a
recipe the settings of the target stand in `data`, or in `data.target` if there is a source domain.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from pydantic import BaseModel

from compress.recipe.presets import AXES
from compress.recipe.schema import Recipe
from compress.recipe.sections import Section, TwoDomainOptions, UndeclaredSettingError

S = TypeVar("S", bound=Section)


def setting_keys(recipe: Recipe) -> list[str]:
    """The dotted keys of all settings of this recipe, also of those with their default value."""
    keys = [f"target.{key}" for key in _leaves(recipe.target)]
    if recipe.source is not None:
        keys += [f"source.{key}" for key in _leaves(recipe.source)]
    return keys + [key for key in _leaves(recipe) if not key.startswith("data.")]


def setting(recipe: Recipe, key: str) -> Any:
    """The value of a setting, given its dotted key."""
    value: Any = recipe
    for part in key.split("."):
        value = getattr(value, part)
    return value


def expand(recipe: Recipe, patterns: Iterable[str]) -> list[str]:
    """The keys that match the patterns, each once, in the order of the recipe.

    A pattern is the key of a setting, or the name of a section for all of its settings. A pattern with a minus in front
    removes the keys that match it from those found so far. Code that reads a setting of a section with several forms
    has to know the form. So the setting that chooses the form (`student.kind`) is added. A pattern may match nothing,
    since a setting may belong to another form of the section.
    """
    known = setting_keys(recipe)
    named: set[str] = set()
    for pattern in patterns:
        plain = pattern.removeprefix("-")
        found = {key for key in known if key == plain or key.startswith(f"{plain}.")}
        if pattern.startswith("-"):
            named -= found
            continue
        named |= found | {f"{name}.{tag}" for name, tag in AXES.items() if any(k.startswith(f"{name}.") for k in found)}
    return [key for key in known if key in named]


def restricted(recipe: Recipe, keys: Iterable[str]) -> Recipe:
    """A copy of the recipe that has only these settings. To read another one raises `UndeclaredSettingError`.

    The keys may have settings of a section with several forms, but not the setting that chooses the form. Then the
    section becomes an instance of a base class of its form, so that its type does not tell the form either.
    """
    wanted = set(keys)
    kept = _kept(recipe, wanted)
    target = _restricted(recipe.target, _below(wanted, "target"))
    source = None if recipe.source is None else _restricted(recipe.source, _below(wanted, "source"))
    if isinstance(recipe.data, TwoDomainOptions):
        tables = {"target": target, "source": source}
        kept["data"] = _with_fields(recipe.data, {name: table for name, table in tables.items() if table is not None})
    elif target is not None:
        kept["data"] = target
    return _with_fields(recipe, kept)


def _leaves(model: BaseModel) -> Iterator[str]:
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, Section):
            yield from (f"{name}.{key}" for key in _leaves(value))
        else:
            yield name


def _below(keys: set[str], section: str) -> set[str]:
    return {key.removeprefix(f"{section}.") for key in keys if key.startswith(f"{section}.")}


def _restricted(model: S, keys: set[str]) -> S | None:
    """A copy of a section with these settings only, or None if it has none of them."""
    kept = _kept(model, keys)
    return _with_fields(model, kept) if kept else None


def _kept(model: Section, keys: set[str]) -> dict[str, Any]:
    """The fields of a section that are one of these settings, or a section with some of them."""
    kept: dict[str, Any] = {}
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, Section):
            inner = _below(keys, name)
            seen = _without_form(value, inner) if inner and name in AXES and AXES[name] not in inner else value
            if (part := _restricted(seen, inner)) is not None:
                kept[name] = part
        elif name in keys:
            kept[name] = value
    return kept


def _without_form(model: Section, keys: set[str]) -> Section:
    """The section as an instance of the nearest base class that has all of these settings."""
    for base in type(model).__mro__[1:]:
        if issubclass(base, Section) and keys <= base.model_fields.keys():
            return base.model_construct(**{name: getattr(model, name) for name in base.model_fields})
    raise UndeclaredSettingError(
        f"{type(model).__name__}: {sorted(keys)} are settings of this form, which is not declared"
    )


def _with_fields(model: S, fields: dict[str, Any]) -> S:
    """A copy of a section that has only these fields."""
    copy = model.model_copy()
    object.__setattr__(copy, "__dict__", fields)
    return copy
