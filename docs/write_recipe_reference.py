"""Write `recipe.md`, the page with every key of a recipe, from the schema in `compress/recipe`.

Usage: python docs/write_recipe_reference.py [OUTPUT.md]
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))

from compress.recipe import Recipe  # noqa: E402
from compress.recipe.presets import _TRAINING, AXES, PRESETS  # noqa: E402
from compress.recipe.sections import Section, SourceOptions, TextOptions, TwoDomainOptions  # noqa: E402
from compress.recipe.sections.teacher import TEACHER_STEPS  # noqa: E402

HEAD = """<!-- Written by `python docs/write_recipe_reference.py` from compress/recipe/sections: change it there. -->
# Recipe reference

A recipe is one TOML file: [a short one](data.md#the-recipe). Every key but `name` has a default. `pocketbert recipe my.toml` prints all keys of
a recipe with their values; a mistake is answered with its line and the cure. `--set SECTION.KEY=VALUE` changes a key for one command.

"""
BOUNDS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤", "multiple_of": "a multiple of"}
NAMES = {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path"}


def main() -> None:
    """Write the page."""
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS / "recipe.md"
    output.write_text(page(), encoding="utf-8")


def page() -> str:
    """The page, as Markdown."""
    parts = [
        HEAD,
        "## Top level\n\n",
        *table({n: f for n, f in Recipe.model_fields.items() if not sections_of(f.annotation)}),
    ]
    for name, field in Recipe.model_fields.items():
        forms = sections_of(field.annotation)
        if not forms:
            continue
        parts.append(f"\n## {name}\n\n")
        if name == "data":
            forms = [form for form in forms if form is not TwoDomainOptions]
            parts += [*section(forms[0]), "\n### data.target and data.source\n\n", about(TwoDomainOptions)]
            parts.append(f"`[data.target]` has the keys of `[data]`. {about(SourceOptions)}")
            parts.append(
                f"`[data.source]` has the keys of `[data]` down to `{list(TextOptions.model_fields)[-1]}`, and these:\n\n"
            )
            own = {name: f for name, f in SourceOptions.model_fields.items() if name not in TextOptions.model_fields}
            parts += table(own)
        elif name in AXES:
            tag = AXES[name]
            parts.append(f"Its forms, chosen by `{tag}`:\n")
            for form in forms:
                value = form.model_fields[tag].default
                parts += [f'\n### {name}: {tag} = "{value}"\n\n', *section(form, leave_out=tag)]
                for key, inner in form.model_fields.items():
                    if nested := sections_of(inner.annotation):
                        parts += [f"\n### {name}.{key}\n\n", *section(nested[0])]
        else:
            parts += section(forms[0])
        if name == "teacher":
            parts.append(f"\nWithout `epochs` and `steps` a teacher is trained for {TEACHER_STEPS} steps.\n")
        if name == "compress":
            parts += defaults_by_kind()
    return "".join([*parts, "\n## Presets\n\n", *presets()])


def section(form: type[Section], leave_out: str = "") -> Iterator[str]:
    """What a section is, and the table of its keys."""
    yield about(form)
    fields = {name: field for name, field in form.model_fields.items() if name != leave_out}
    yield from table(fields) if fields else ["It has no other keys.\n"]


def about(form: type[Section]) -> str:
    """The docstring of a section, as a paragraph."""
    return f"{inspect.cleandoc(form.__doc__ or '')}\n\n"


def table(fields: dict[str, FieldInfo]) -> Iterator[str]:
    """A row for each key."""
    yield "| key | value | default | |\n|---|---|---|---|\n"
    for name, field in fields.items():
        if not field.description:
            raise SystemExit(f"{name}: describe this setting in compress/recipe (default {default(field)})")
        yield f"| `{name}` | {cell(kind(field))} | {cell(default(field))} | {cell(field.description)} |\n"


def cell(text: str) -> str:
    """Text for one cell of a table."""
    return text.replace("|", "\\|").replace("\n", " ")


def default(field: FieldInfo) -> str:
    """The default, in TOML."""
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "see below" if field.is_required() and field.annotation is not str else "needed"
    if value is None or isinstance(value, Section):
        return ""
    return f"`{json.dumps(TypeAdapter(type(value)).dump_python(value, mode='json'), ensure_ascii=False)}`"


def kind(field: FieldInfo) -> str:
    """What values the key has."""
    return typed(field.annotation, field.metadata)


def typed(annotation: Any, metadata: list[Any]) -> str:
    """A type with its bounds, in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner, *more = arguments
        return typed(inner, [*more, *metadata])
    if origin is Literal:
        return ", ".join(f"`{json.dumps(value)}`" for value in arguments)
    if origin in (Union, UnionType):
        return " or ".join(typed(one, metadata) for one in arguments if one is not NoneType)
    if origin is list:
        return f"list of: {typed(arguments[0], [])}"
    if origin is dict:
        return "table of texts"
    if origin is tuple:
        return f"{len(arguments)} numbers"
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return "a table, see below"
    return f"{NAMES.get(annotation, str(annotation))}{''.join(bounds(metadata))}"


def bounds(metadata: list[Any]) -> Iterator[str]:
    """The bounds of a number, such as ` > 0`."""
    for mark in metadata:
        if isinstance(mark, FieldInfo):
            yield from bounds(mark.metadata)
        for name, sign in BOUNDS.items():
            if (bound := getattr(mark, name, None)) is not None:
                yield f", {sign} {bound}"


def sections_of(annotation: Any) -> list[type[Section]]:
    """The forms of a section, in the order of the schema; none if the annotation is that of a plain key."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [form for one in get_args(annotation) for form in sections_of(one)]


def defaults_by_kind() -> Iterator[str]:
    """The defaults of the training that depend on the student."""
    keys = list(dict.fromkeys(key for values in _TRAINING.values() for key in values))
    yield "\nWhere the recipe does not set them, by `student.kind`:\n\n"
    yield f"| student | {' | '.join(f'`{key}`' for key in keys)} |\n|---|{'---|' * len(keys)}\n"
    for student, values in _TRAINING.items():
        yield f"| `{student}` | {' | '.join(f'`{values[key]}`' if key in values else '' for key in keys)} |\n"


def presets() -> Iterator[str]:
    """What each preset sets."""
    yield "What `compress.preset` sets where the recipe does not. [Methods](methods.md#presets) says what they are.\n\n"
    yield "| preset | sets |\n|---|---|\n"
    for name, sections in PRESETS.items():
        values = (
            f"`{part}.{key} = {json.dumps(value)}`" for part, keys in sections.items() for key, value in keys.items()
        )
        yield f"| `{name}` | {', '.join(values)} |\n"


if __name__ == "__main__":
    main()
