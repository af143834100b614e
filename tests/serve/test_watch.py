"""A directory of versions: the highest one that can be served is, whatever lies beside it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from compress.runtime.errors import UserError
from export.bundle import MANIFEST, Bundle
from serve.settings import Settings
from serve.watch import Watch, highest_version, versions
from tests.conftest import make_tiny_bundle


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for version in ("2", "9", "10"):
        make_tiny_bundle(tmp_path / version, name=f"tiny-{version}")
    (tmp_path / "11").mkdir()  # nothing in it yet
    shutil.copytree(tmp_path / "2", tmp_path / "old")
    return tmp_path


def verified(taken: list[str]) -> Callable[[Path], bool]:
    def take(version: Path) -> bool:
        try:
            Bundle(version)
        except UserError:
            taken.append(f"not {version.name}")
            return False
        taken.append(version.name)
        return True

    return take


def damage(version: Path) -> None:
    (version / "model.fp32.onnx").write_bytes(b"half of it")


def test_versions_are_numbers_and_not_words(directory: Path) -> None:
    assert [one.name for one in versions(directory)] == ["10", "9", "2"]
    damage(directory / "10")
    assert highest_version(directory).name == "9"
    assert Settings(watch=directory, bundle=directory / "2").bundle_directory().name == "9"
    with pytest.raises(UserError, match="no bundle in it can be served"):
        highest_version(directory / "old")


def test_a_new_version_is_taken_once(directory: Path) -> None:
    taken: list[str] = []
    watch = Watch(directory, directory / "10", verified(taken))
    watch.look()
    assert taken == []
    make_tiny_bundle(directory / "12")
    watch.look()
    watch.look()
    assert taken == ["12"]


def test_a_version_that_is_refused_is_tried_again_when_it_has_changed(directory: Path) -> None:
    taken: list[str] = []
    watch = Watch(directory, directory / "10", verified(taken))
    shutil.copytree(directory / "10", directory / "12")
    damage(directory / "12")  # its copying has not ended
    watch.look()
    watch.look()
    assert taken == ["not 12"]
    shutil.copyfile(directory / "10" / "model.fp32.onnx", directory / "12" / "model.fp32.onnx")
    watch.look()
    assert taken == ["not 12", "12"]


def test_without_the_version_that_is_served_it_goes_back_but_not_if_it_is_only_damaged(directory: Path) -> None:
    taken: list[str] = []
    watch = Watch(directory, directory / "10", verified(taken))
    damage(directory / "10")
    watch.look()
    watch.look()
    assert taken == ["not 10"]
    shutil.rmtree(directory / "10")
    watch.look()
    assert taken == ["not 10", "9"]
    (directory / "9" / MANIFEST).unlink()
    watch.look()
    assert taken == ["not 10", "9", "2"]
