"""The examples work as their page says: its commands are typed in order, its notebook is run, with small tables and a BERT of seconds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.documents import EXAMPLES, ROOT, blocks, why_not_run, words
from tests.e2e import prepared
from tests.tiny_task import tiny_teacher
from tests.waiting import PATIENCE, free_port, until

pytestmark = pytest.mark.slow  # 30 seconds of one core for all of it
ROWS = "240"
SMALL = {
    "films.toml": "data.max_length=32 student.width=16 student.max_cells=1 search.epochs=1 search.trials=0 search.cost=computed "
    "transfer.joined=50 transfer.replaced=50 compress.steps=30",
    "pairs.toml": "data.max_length=64 student.width=16 student.max_cells=1 compress.steps=20",
    "tweets.toml": "data.target.max_length=32 student.width=16 student.max_cells=1 augmentation.copies=1 "
    "augmentation.selector.pool=64 compress.epochs=1",
    "domains.toml": "data.max_length=32 student.layers=1 compress.epochs=1",
}
EVERYWHERE = ["teacher.model=bert", "teacher.epochs=1", "export.below_linear=warn"]


def settings(recipe: str) -> list[str]:
    """What makes a recipe a task of seconds."""
    return [*EVERYWHERE, *SMALL[recipe].split()]


class Folder:
    """A copy of examples/, in which commands are typed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.printed: dict[str, str] = {}  # command → what it printed
        self._server: subprocess.Popen[bytes] | None = None
        self._port = free_port()

    def type(self, command: str) -> None:
        typed = words(command.replace("localhost:3000", f"127.0.0.1:{self._port}"))
        if typed[0] == "pocketbert":
            recipe = typed[2]
            changed = [word for one in settings(recipe) for word in ("--set", one)] if recipe in SMALL else []
            done = prepared.run("pocketbert", *typed[1:], *changed, output=self.directory / "printed")
        elif typed[0] == "bentoml":
            self._serve(command, typed)
            done = subprocess.CompletedProcess(typed, 0, "", "")
        else:
            assert typed[0] == "python", command
            rows = [ROWS] if typed[1] == "make_tables.py" else []
            done = subprocess.run([sys.executable, *typed[1:], *rows], capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        self.printed[command] = done.stdout + done.stderr

    def leave(self) -> None:
        if self._server is not None:
            self._server.terminate()
            self._server.wait(timeout=PATIENCE)

    def _serve(self, command: str, typed: list[str]) -> None:
        variables = dict(word.split("=", 1) for word in command.split() if word.split("=")[0].isupper())
        where = ["--host", "127.0.0.1", "--port", str(self._port)]
        with (self.directory / "server.log").open("wb") as log:
            self._server = server = subprocess.Popen(
                [sys.executable, "-m", *typed, *where], env=os.environ | variables, stdout=log, stderr=log
            )

        def is_ready() -> bool:
            assert server.poll() is None, (self.directory / "server.log").read_text()
            try:
                return httpx.get(f"http://127.0.0.1:{self._port}/readyz").is_success
            except httpx.HTTPError:
                return False

        until(is_ready)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    """The examples, all of whose commands have been typed."""
    directory = tmp_path_factory.mktemp("examples") / "examples"
    shutil.copytree(EXAMPLES.parent, directory, ignore=shutil.ignore_patterns("artifacts", "tables", "__pycache__"))
    tiny_teacher(directory / "bert")
    made = Folder(directory)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("BENTOML_DO_NOT_TRACK", "True")
        try:
            for block in blocks(EXAMPLES):
                for command in block.commands:
                    if why_not_run(command) is None:
                        made.type(command)
        finally:
            made.leave()
    return made


def printed(folder: Folder, start: str) -> str:
    """What the first command with this start printed."""
    return next(text for command, text in folder.printed.items() if command.startswith(start))


def test_every_file_of_the_examples_is_on_their_page(folder: Folder) -> None:
    page = EXAMPLES.read_text(encoding="utf-8")
    files = [path.name for path in EXAMPLES.parent.iterdir() if path.is_file()]
    assert [name for name in files if name != EXAMPLES.name and name not in page] == []


def test_a_table_becomes_a_classifier_for_python(folder: Folder) -> None:
    assert 'separator = ";"' in (folder.directory / "my_films.toml").read_text(encoding="utf-8")
    asked = printed(folder, "python ask.py")
    assert "labels: bad, good, mixed" in asked
    assert "A wonderful little film." in asked


def test_a_server_with_a_cascade_answers(folder: Folder) -> None:
    answered = printed(folder, "python ask_server.py")
    counts = {line.split(":")[0]: int(line.split()[1]) for line in answered.splitlines()}
    assert counts.keys() <= {"student", "teacher"}
    assert sum(counts.values()) == 200
    assert counts["teacher"] > 0  # a student of 30 steps is unsure of something


def test_pairs_and_domains_have_answers(folder: Folder) -> None:
    pair = json.loads(printed(folder, "pocketbert predict artifacts/pairs"))
    assert pair["label"] in ("first", "second")
    answers = [
        text for command, text in folder.printed.items() if command.startswith("pocketbert predict artifacts/domains")
    ]
    assert {json.loads(text)["label"] for text in answers} <= {"negative", "positive"}
    assert len(answers) == 2
    manifest = json.loads((folder.directory / "artifacts/domains/bundle/manifest.json").read_text(encoding="utf-8"))
    assert set(manifest["domains"]) == {"movies", "products", "tweets"}


def test_the_texts_of_l2a_are_shown(folder: Folder) -> None:
    assert (folder.directory / "artifacts/tweets/student/selector.json").is_file()
    assert len(printed(folder, "pocketbert augment").splitlines()) >= 5


def test_the_notebook_runs_from_its_first_cell_to_its_last(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder.directory)
    monkeypatch.syspath_prepend(str(folder.directory))
    monkeypatch.setenv("MPLBACKEND", "agg")
    cells = json.loads((folder.directory / "sentiment.ipynb").read_text(encoding="utf-8"))["cells"]
    names: dict[str, object] = {}
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
            if "parameters" in cell["metadata"].get("tags", []):
                names["SETTINGS"] = settings("films.toml")
    shown = capsys.readouterr()
    assert "student: up to date" in shown.err  # the commands have made it
    assert [line.split()[0] for line in shown.out.splitlines() if " texts, median " in line] == ["linear", "student,"]
    for result in ("student", "bundle"):
        assert "<table>" in names[result]._repr_html_()  # type: ignore[attr-defined]
