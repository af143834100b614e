"""`pocketbert doctor`."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest

from pocketbert import doctor
from tests.pocketbert.conftest import Command

ORIGIN = '{"url": "file:///home/me/pocketbert", "dir_info": {"editable": true}}'


class Installed(metadata.Distribution):
    """A distribution of pocketbert that needs what a test says, and comes from where it says."""

    def __init__(self, requires: list[str], origin: str | None = None) -> None:
        self._requires, self._origin = requires, origin

    def read_text(self, filename: str) -> str | None:
        requires = "".join(f"Requires-Dist: {one}\n" for one in self._requires)
        content = {"METADATA": f"Name: pocketbert\nVersion: 1\n{requires}", "direct_url.json": self._origin}
        return content.get(filename)

    def locate_file(self, path: object) -> Path:  # type: ignore[override]
        raise NotImplementedError


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch):
    def pretend(*requires: str, origin: str | None = None) -> None:
        monkeypatch.setattr("pocketbert.diagnosis.distribution", lambda name: Installed(list(requires), origin))

    return pretend


def test_everything_that_the_tests_need_is_found(command: Command) -> None:
    done = command("doctor")
    assert done.status == 0
    lines = done.out.splitlines()
    for feature in ("ask a bundle (predict, inspect)", "serve a bundle (serve)"):
        assert any(line.startswith(f"  ✓ {feature}") for line in lines), done.out
    assert sum(" AVX2 or NEON " in line for line in lines) == 1
    found = json.loads(command("doctor", "--json").out)
    assert {"machine", "features"} == found.keys()


def test_what_is_missing_or_too_old_is_named_with_the_command_that_gets_it(installed) -> None:
    installed(
        "numpy>=1.26",
        "tokenizers>=999",
        'absent-package>=2; extra == "train"',
        'elsewhere>=2; extra == "train" and sys_platform == "none"',
        'onnxruntime>=1; extra == "cpu"',
    )
    found = {finding.what: finding for finding in doctor().features}
    ask, make = found["ask a bundle (predict, inspect)"], found["make a student (compress, export)"]
    assert (ask.state, ask.found) == ("no", "missing: tokenizers>=999")
    assert ask.cure == "pip install 'pocketbert[cpu]'"
    assert (make.state, make.found) == ("no", "missing: absent-package>=2")
    assert make.cure == "pip install 'pocketbert[train,cpu]'"


def test_a_clone_is_installed_again_from_where_it_is(installed) -> None:
    installed('absent-package; extra == "train"', origin=ORIGIN)
    found = {finding.what: finding for finding in doctor().features}
    assert found["measure (bench, table)"].cure == "pip install -e '/home/me/pocketbert[train,cpu]'"


def test_nanotoken_is_a_matter_of_speed_only(installed, monkeypatch: pytest.MonkeyPatch) -> None:
    installed('nanotoken>=0.1.0; extra == "cpu"')
    for version, state in (("0.1.0", "yes"), (None, "no")):
        monkeypatch.setattr("pocketbert.diagnosis.nanotoken_version", lambda version=version: version)
        found = {finding.what: finding for finding in doctor().features}
        assert found["ask a bundle (predict, inspect)"].state == "yes"
        assert found["encode a text in microseconds"].state == state
    assert "tokenizers" in found["encode a text in microseconds"].found
    assert found["encode a text in microseconds"].cure == "pip install 'pocketbert[cpu]'"


def test_a_notebook_shows_a_table() -> None:
    assert "ask a bundle (predict, inspect)" in doctor()._repr_html_()
