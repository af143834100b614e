"""From a table to an answer, as a newcomer does it: the commands and the Python of README and docs/, on a task of seconds."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.documents import DOCUMENTS as READ
from tests.documents import ROOT, all_blocks, blocks, why_not_run
from tests.tiny_task import sentences, tiny_teacher
from tests.waiting import PATIENCE, free_port, until

# What makes the recipe a task of seconds. All else is as `init` wrote it.
QUICK = {
    "[teacher]\n": "[teacher]\nepochs = 6\nlearning_rate = 3e-3\n",
    "\nsteps = 20_000 ": "\nsteps = 200 ",
    "[compress]\n": "[compress]\nbatch_size = 16\naverage = 0.9\n",
    "[student]\n": "[student]\nmax_cells = 1\n",
    "[search]\n": "[search]\nepochs = 1\ntrials = 0\n",
    "\nwidth = 128 ": "\nwidth = 16 ",
    "\ntexts = 200_000 ": "\ntexts = 0 ",
    "\nsampled = 125_000 ": "\nsampled = 50 ",
    "budget = 1.0 ": 'below_linear = "warn" ',
}


class Reader:
    """Somebody who types what the documents say, in a directory of their own, with a BERT that trains in seconds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.done: dict[str, str] = {}  # command → what it printed to stdout and stderr
        self.answers: list[tuple[Any, Any]] = []  # of the service: as documented, and as given
        self._servers: list[subprocess.Popen[str]] = []
        self._environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "HF_HUB_OFFLINE": "1",
            "BENTOML_DO_NOT_TRACK": "True",
        }
        self._port = free_port()

    def follow(self, document: Path) -> None:
        """Type the commands of a document that are quick, those typed before left out."""
        answer = ""
        for block in blocks(document):
            if block.language == "json":
                self.answers.append((json.loads(block.text), json.loads(answer)))
            for command in block.commands if block.language == "sh" else ():
                again = command not in self.done or command.startswith(("pocketbert serve", "curl "))
                if why_not_run(command) is None and again:
                    answer = self._type(command)
        self.leave()

    def leave(self) -> None:
        """Stop the servers."""
        while self._servers:
            server = self._servers.pop()
            server.terminate()
            server.wait(timeout=PATIENCE)

    def _type(self, command: str) -> str:
        """What a command printed; a server stays until the end of the document."""
        typed = command.replace("localhost:3000", f"127.0.0.1:{self._port}").replace("curl ", "curl -sSf ")
        typed = typed.replace("pocketbert ", f"{sys.executable} -m pocketbert ", 1)
        if command.startswith("pocketbert serve"):
            self._serve(f"exec {typed} --host 127.0.0.1 --port {self._port}")
            return self.done.setdefault(command, "")
        if command.startswith("pocketbert init"):
            typed += " --teacher bert"
        run = {"cwd": self.folder, "env": self._environment, "capture_output": True, "text": True, "timeout": 600}
        done = subprocess.run(["bash", "-c", typed], **run)  # type: ignore[call-overload]
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        if command.startswith("pocketbert init"):
            make_quick(self.folder / "tickets.toml")
        self.done[command] = done.stdout + done.stderr
        return done.stdout

    def _serve(self, typed: str) -> None:
        log = (self.folder / "serve.log").open("w")
        server = subprocess.Popen(["bash", "-c", typed], cwd=self.folder, env=self._environment, stdout=log, stderr=log)
        self._servers.append(server)  # type: ignore[arg-type]

        def is_ready() -> bool:
            assert server.poll() is None, (self.folder / "serve.log").read_text()
            try:
                return httpx.get(f"http://127.0.0.1:{self._port}/readyz").is_success
            except httpx.HTTPError:
                return False

        until(is_ready)


def make_quick(recipe: Path) -> None:
    """Make the recipe that `init` wrote a task of seconds."""
    text = recipe.read_text(encoding="utf-8")
    for written, quick in QUICK.items():
        assert written in text
        text = text.replace(written, quick)
    recipe.write_text(text, encoding="utf-8")


def shape(value: Any) -> Any:
    """The keys and types of an answer, without its values."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    return [shape(inner) for inner in value] if isinstance(value, list) else type(value).__name__


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """A reader who has typed all quick commands of README and docs/, in their order."""
    folder = tmp_path_factory.mktemp("front-door")
    rows = "".join(f"{i};{text};{label}\n" for i, (text, label) in enumerate(sentences(300)))
    (folder / "tickets.csv").write_text(f"id;body;mood\n{rows}", encoding="utf-8")
    tiny_teacher(folder / "bert")
    reader = Reader(folder)
    try:
        for document in READ:
            reader.follow(document)
        yield reader
    finally:
        reader.leave()


def test_the_commands_of_the_documents_work(reader: Reader) -> None:
    typed = {" ".join(command.split()[:2]) for command in reader.done}
    commands = {"init", "plan", "compress", "export", "predict", "inspect", "serve", "recipe", "augment", "doctor"}
    assert {f"pocketbert {name}" for name in commands} <= typed
    assert "pocketbert serve artifacts/tickets/bundle" in reader.done["pocketbert export tickets.toml"]
    assert "linear model on n-grams" in reader.done["pocketbert inspect artifacts/tickets"]


def test_the_service_answers_as_documented(reader: Reader) -> None:
    assert len(reader.answers) == 3
    for documented, given in reader.answers:
        assert shape(documented) == shape(given)


def test_the_classifier_has_learned(reader: Reader) -> None:
    answer = reader._type('pocketbert predict artifacts/tickets "the film number 5 was superb and the song too"')
    assert json.loads(answer)["label"] == "positive"


def test_the_python_of_the_documents_runs(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(reader.folder)
    names: dict[str, object] = {}
    written = all_blocks("python")
    assert len(written) >= 4
    for block in written:
        exec(compile(block.text, block.place, "exec"), names)
    printed = capsys.readouterr()
    # Which label the tiny model has for words that it never saw is chance.
    assert re.search(r"^\['(?:negative|positive)', '(?:negative|positive)'\]$", printed.out, re.MULTILINE)
    assert "bundle: up to date" in printed.err  # what the commands made is what the functions make
    for result in ("answer", "answers", "draft", "student", "bundle"):
        assert str(names[result])
    for result in ("answers", "draft", "student", "bundle"):
        assert "<table>" in names[result]._repr_html_()  # type: ignore[attr-defined]
