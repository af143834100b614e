"""Files are seen whole or not at all, whoever else writes them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from compress.data.files import write_json
from compress.runtime.files import write_text


def test_two_runs_that_write_a_file_at_once_both_succeed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, rename = tmp_path / "costs.json", os.replace

    def let_the_other_go_first(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "replace", rename)
        write_json(file, {"run": "other"})
        assert json.loads(file.read_text()) == {"run": "other"}
        rename(source, target)

    monkeypatch.setattr(os, "replace", let_the_other_go_first)
    write_json(file, {"run": "own"})
    assert json.loads(file.read_text()) == {"run": "own"}
    assert list(tmp_path.iterdir()) == [file]


def test_what_cannot_be_written_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "report.md"
    write_text(file, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(file, "half a character: \ud800")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]
