"""A recipe's settings by dotted key, and copies of a recipe in which some settings cannot be read.

Keys are named as code reads them: `target.max_length`, `source.relabel`, `teacher.epochs`, `seed`. A recipe's file writes the
target's as `data.max_length`, or `data.target.max_length` where there is a source domain.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from pydantic import BaseModel

from compress.recipe.presets import AXES
from compress.recipe.schema import Recipe
from compress.recipe.sections import Section, TwoDomainOptions, UndeclaredSettingError

S = TypeVar("S", bound=Section)
FORMS = AXES  # the sections that have several forms, and the setting that chooses the form


def setting_keys(recipe: Recipe) -> list[str]:
    """The dotted key of every setting that this recipe has, its defaults included."""
    keys = [f"target.{key}" for key in _leaves(recipe.target)]
    if recipe.source is not None:
        keys += [f"source.{key}" for key in _leaves(recipe.source)]
    return keys + [key for key in _leaves(recipe) if not key.startswith("data.")]


def setting(recipe: Recipe, key: str) -> Any:
    """The value of a setting."""
    value: Any = recipe
    for part in key.split("."):
        value = getattr(value, part)
    return value


def expand(recipe: Recipe, patterns: Iterable[str]) -> list[str]:
    """The settings that some patterns name, in the recipe's order, each once.

    A pattern is a setting, or a section for all of its settings; with a minus before it, it takes out what the patterns
    before it name. Code that reads a setting of a section with several forms knows the form, so the setting that chooses
    the form (`student.kind`) comes with it. A pattern may name a setting that this recipe's form of a section has not.
    """
    known = setting_keys(recipe)
    named: set[str] = set()
    for pattern in patterns:
        plain = pattern.removeprefix("-")
        found = {key for key in known if key == plain or key.startswith(f"{plain}.")}
        if pattern.startswith("-"):
            named -= found
            continue
        named |= found | {
            f"{name}.{tag}" for name, tag in FORMS.items() if any(k.startswith(f"{name}.") for k in found)
        }
    return [key for key in known if key in named]


def restricted(recipe: Recipe, keys: Iterable[str]) -> Recipe:
    """A copy of the recipe in which only these settings can be read; reading another raises `UndeclaredSettingError`.

    A section of several forms whose choosing setting is not among the keys is seen as an instance of the base class that
    has the others, so that its form cannot be told either.
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
    """A copy of a section with these settings only; None where there are none of them."""
    kept = _kept(model, keys)
    return _with_fields(model, kept) if kept else None


def _kept(model: Section, keys: set[str]) -> dict[str, Any]:
    """The fields of a section that hold one of these settings."""
    kept: dict[str, Any] = {}
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, Section):
            inner = _below(keys, name)
            seen = _without_form(value, inner) if inner and name in FORMS and FORMS[name] not in inner else value
            if (part := _restricted(seen, inner)) is not None:
                kept[name] = part
        elif name in keys:
            kept[name] = value
    return kept


def _without_form(model: Section, keys: set[str]) -> Section:
    """The section as an instance of the nearest base class that has all of these settings, but not the one that chooses its form."""
    for base in type(model).__mro__[1:]:
        if issubclass(base, Section) and keys <= base.model_fields.keys():
            return base.model_construct(**{name: getattr(model, name) for name in base.model_fields})
    raise UndeclaredSettingError(
        f"{type(model).__name__}: {sorted(keys)} are settings of this form, which is not declared"
    )


def _with_fields(model: S, fields: dict[str, Any]) -> S:
    """A copy of a section that has these fields and no others."""
    copy = model.model_copy()
    object.__setattr__(copy, "__dict__", fields)
    return copy
