"""A small task with a BERT."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from compress.recipe import Recipe, load_recipe
from tests.tiny_teachers import tiny_bert_task


@pytest.fixture
def task(tmp_path: Path) -> Callable[..., Recipe]:
    """Write a small task with a BERT, and read its recipe with these settings."""
    file = tiny_bert_task(tmp_path)
    return lambda *settings: load_recipe(file, list(settings))
