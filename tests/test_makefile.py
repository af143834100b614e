"""What the targets of the Makefile refuse."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_lint_refuses_a_file_that_is_not_formatted(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    (tmp_path / ".venv" / ".dev").touch()  # newer than what it is made from, so nothing is installed
    (tmp_path / "odd.py").write_text("number = {  'a':1 }\n")
    command = ["make", "lint", "VENV=.venv"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "1 file would be reformatted" in done.stdout
