from pathlib import Path

import pytest

from compress.errors import UserError
from compress.recipe import load_recipe


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "task.toml"
    path.write_text(text)
    return path


def test_empty_recipe_is_the_default_task(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, ""))
    assert recipe.name == "task"
    assert recipe.data.source == "embedded"
    assert recipe.compress.preset == "adabert"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[compress]\nwidth = 64\nepohcs = 3\n", [":3", "compress.epohcs", "unknown key", "search_epochs"]),
        ("[compress]\nepochs = 'many'\n", [":2", "compress.epochs", "'many'"]),
        ("[export]\n\nbudget = -1.0\n", [":3", "export.budget", "-1.0"]),
        ("[data]\nsource = 'files'\n", [":1", "data", "data.train"]),
        ("[data]\ntrain = 'x.tsv'\n", ["source"]),
        ("name = 'a/b'\n", [":1", "name"]),
        ("[compress\n", ["not valid TOML", "line 1"]),
        ("extra = 1\n", [":1", "extra", "unknown key"]),
    ],
)
def test_a_mistake_is_told_in_one_line_with_its_place(tmp_path: Path, text: str, expected: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(write(tmp_path, text))
    message = str(caught.value)
    assert "task.toml" in message
    assert all(part in message for part in expected), message
    assert "\n" not in message


def test_missing_recipe(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such recipe"):
        load_recipe(tmp_path / "absent.toml")


def test_overrides_win_and_keep_their_types(tmp_path: Path) -> None:
    path = write(tmp_path, "[compress]\nepochs = 5\n")
    recipe = load_recipe(path, ["compress.epochs=3", "teacher.model=some/model", "bench.lengths=[16]", "name=other"])
    assert recipe.compress.epochs == 3
    assert recipe.teacher.model == "some/model"
    assert recipe.bench.lengths == [16]
    assert recipe.name == "other"


def test_a_wrong_override_is_named_by_its_flag(tmp_path: Path) -> None:
    path = write(tmp_path, "")
    with pytest.raises(UserError, match=r"--set compress\.epochs"):
        load_recipe(path, ["compress.epochs=none"])
    with pytest.raises(UserError, match=r"section\.key=value"):
        load_recipe(path, ["compress.epochs"])


def test_paths_are_relative_to_the_recipe(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, "[data]\nsource = 'files'\ntrain = 'sub/train.tsv'\n"))
    assert recipe.data.train == tmp_path / "sub" / "train.tsv"
