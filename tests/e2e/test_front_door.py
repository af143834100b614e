"""From a table to an answer, as a newcomer does it: the commands, and the Python of docs/python.md."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny_task import sentences, tiny_teacher

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(
    r"^```python\n(.*?)^```", (ROOT / "docs" / "python.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
)
# What makes the recipe a task of seconds. All else is as `init` wrote it.
QUICK = {"texts = 80_000 ": "texts = 0 ", "joined = 40_000 ": "joined = 50 ", "budget = 1.0 ": 'below_linear = "warn" '}
QUICK_SECTIONS = """
[student]
width = 16
max_cells = 1
[search]
epochs = 1
trials = 0
"""


def pocketbert(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "pocketbert", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which the commands made `artifacts/tickets` from `tickets.csv`."""
    folder = tmp_path_factory.mktemp("front-door")
    rows = "".join(f"{i};{text};{label}\n" for i, (text, label) in enumerate(sentences(300)))
    (folder / "tickets.csv").write_text(f"id;body;mood\n{rows}", encoding="utf-8")
    tiny_teacher(folder / "bert")
    pocketbert(folder, "init", "tickets.csv", "--teacher", "bert")
    recipe = folder / "tickets.toml"
    text = recipe.read_text(encoding="utf-8").replace("[teacher]\n", "[teacher]\nepochs = 6\nlearning_rate = 3e-3\n")
    text = text.replace("[compress]\n", "[compress]\nsteps = 200\nbatch_size = 16\naverage = 0.9\n")
    for written, quick in QUICK.items():
        assert written in text
        text = text.replace(written, quick)
    recipe.write_text(text + QUICK_SECTIONS, encoding="utf-8")
    pocketbert(folder, "compress", "tickets.toml")
    assert "pocketbert serve artifacts/tickets/bundle" in pocketbert(folder, "export", "tickets.toml").stderr
    return folder


def test_four_commands_lead_from_a_table_to_an_answer(folder: Path) -> None:
    output = pocketbert(folder, "predict", "artifacts/tickets", "the film number 5 was superb and the song too").stdout
    assert json.loads(output)["label"] == "positive"
    assert "linear model on n-grams" in pocketbert(folder, "inspect", "artifacts/tickets").stdout


def test_the_python_of_the_guide_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    assert len(BLOCKS) == 3
    for block in BLOCKS:
        exec(compile(block, "docs/python.md", "exec"), names)
    printed = capsys.readouterr()
    assert "['negative', 'positive']" in printed.out
    assert "bundle: up to date" in printed.err  # what the commands made is what the functions make
    for result in ("answer", "answers", "draft", "student", "bundle"):
        assert str(names[result])
    for result in ("answers", "draft", "student", "bundle"):
        assert "<table>" in names[result]._repr_html_()  # type: ignore[attr-defined]
