"""Teachers of many families, from the preflight to the bundle; the student of each is a transformer of its family."""

from __future__ import annotations

from pathlib import Path

import pytest

from compress.pipeline.run import compress
from compress.pipeline.workspace import Workspace
from compress.recipe import load_recipe
from compress.runtime.errors import UserError
from export.build import build_bundle
from export.session import BundleSession
from export.trial import trial_export
from tests.tiny_task import sentences, write_tsv
from tests.tiny_teachers import FAMILIES, tiny_teacher_of

RECIPE = """
[data]
train = "train.tsv"
dev = "dev.tsv"
max_length = 32
[teacher]
model = "teacher"
steps = 2
[student]
kind = "transformer"
layers = 1
[compress]
epochs = 1
batch_size = 16
[export]
below_linear = "warn"
budget = 100
calibration_texts = 16
"""


def run(directory: Path, *settings: str) -> BundleSession:
    write_tsv(directory / "train.tsv", sentences(40))
    write_tsv(directory / "dev.tsv", sentences(20, seed=1))
    (directory / "task.toml").write_text(RECIPE, encoding="utf-8")
    recipe, workspace = load_recipe(directory / "task.toml", list(settings)), Workspace(directory / "artifacts")
    compress(recipe, workspace, trial_export=trial_export)
    return BundleSession(build_bundle(recipe, workspace, "cpu"))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_teacher_of_this_family_gets_a_bundle(tmp_path: Path, family: str) -> None:
    tiny_teacher_of(family, tmp_path / "teacher")
    small = ["student.width=8", "student.heads=2"]
    settings = ["student.init=random", *small] if family == "albert" else []  # its layers share their weights
    session = run(tmp_path, *settings)
    assert session.predict(["the film was good", "a"]).shape == (2, 2)


def test_a_random_student_has_the_size_that_the_recipe_gives(tmp_path: Path) -> None:
    tiny_teacher_of("deberta-v2", tmp_path / "teacher")
    session = run(tmp_path, "student.init=random", "student.width=8", "student.heads=2")
    assert session.predict(["the film was good"]).shape == (1, 2)


def test_a_decoder_is_refused_in_one_line(tmp_path: Path) -> None:
    tiny_teacher_of("gpt2", tmp_path / "teacher")
    with pytest.raises(UserError, match=r"teacher\.model: .* is a decoder"):
        run(tmp_path)
    assert not (tmp_path / "artifacts" / "teacher").exists()
