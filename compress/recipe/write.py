"""A recipe as a TOML file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compress.recipe.schema import Recipe
from compress.runtime.files import write_text


def write_recipe(recipe: Recipe, file: Path) -> None:
    """Write a recipe with all of its settings. `load_recipe` reads it again; its paths are absolute.

    A line has one setting. JSON writes strings, numbers, booleans and lists as TOML does.
    """
    lines = [f"{'.'.join(keys)} = {json.dumps(value, ensure_ascii=False)}" for keys, value in _settings(recipe.dump())]
    write_text(file, "\n".join(lines) + "\n")


def _settings(table: dict[str, Any]) -> Iterator[tuple[list[str], Any]]:
    """The dotted keys and the values. A setting without a value is left out, since TOML has none for it."""
    for name, value in table.items():
        key = name if name.isidentifier() and name.isascii() else json.dumps(name, ensure_ascii=False)
        if isinstance(value, dict):
            yield from (([key, *keys], inner) for keys, inner in _settings(value))
        elif value is not None:
            yield [key], value
