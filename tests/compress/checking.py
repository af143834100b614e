"""The preflight of a recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from compress.pipeline.preflight import Weights, preflight
from compress.pipeline.stage import TaskTexts
from compress.recipe import Recipe
from compress.runtime.errors import UserError


def check(recipe: Recipe) -> Weights:
    return preflight(recipe, TaskTexts(recipe).corpus)


def refused(recipe: Recipe) -> str:
    with pytest.raises(UserError) as caught:
        check(recipe)
    return str(caught.value)


def rewrite_json(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | values), encoding="utf-8")
