"""`pocketbert serve`, which is `python -m serve`: BentoML's server with options in place of variables."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from compress.runtime.errors import UserError
from serve.__main__ import app
from tests.waiting import PATIENCE, free_port, until

ROOT = Path(__file__).parents[2]


def test_the_command_serves_a_bundle_from_any_directory(tiny_bundle: Path, tmp_path: Path) -> None:
    port = free_port()
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "BENTOML_HOME": str(tmp_path / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        "POCKETBERT_THREADS": "9",
    }
    options = ["--port", str(port), "--host", "127.0.0.1", "--threads", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pocketbert", "serve", str(tiny_bundle.parent), *options],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:

            def is_ready() -> bool:
                assert process.poll() is None, process.stdout and process.stdout.read()
                try:
                    return client.get("/readyz").is_success
                except httpx.TransportError:
                    return False

            until(is_ready)
            assert client.post("/classify", json={"text": "a good film"}).json()["label"] == "positive"
            info = client.get("/info").json()
            assert (info["name"], info["threads"]) == ("tiny", 2)
    finally:
        process.terminate()
        output, _ = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in output


def test_a_mistake_is_said_before_bentoml_starts(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def refusal(*arguments: str) -> str:
        result = CliRunner().invoke(app, list(arguments))
        assert isinstance(result.exception, UserError)
        return str(result.exception)

    assert "no bundle under" in refusal()
    assert "nowhere: no such directory" in refusal("nowhere")
    monkeypatch.setenv("POCKETBERT_PRECISION", "")  # what the command sets is taken back after the test
    assert "no precision 'int4'" in refusal(str(tiny_bundle), "--precision", "int4")


def test_a_port_in_use_and_an_address_of_another_machine_are_one_line(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "bentoml"))
    monkeypatch.setenv("POCKETBERT_BUNDLE", "")  # what the command sets is taken back after the test

    def refusal(*arguments: object) -> str:
        result = CliRunner().invoke(app, [str(tiny_bundle), *map(str, arguments)])
        assert isinstance(result.exception, UserError)
        return str(result.exception)

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"127.0.0.1:{port}: cannot listen there" in refusal("--host", "127.0.0.1", "--port", port)
        assert "another with --port" in refusal("--port", port)
    assert "another with --host" in refusal("--host", "203.0.113.7", "--port", port)


def test_a_user_without_a_home_is_told_what_to_set(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BENTOML_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # what it does for such a user
    done = CliRunner().invoke(app, [str(tiny_bundle)])
    assert isinstance(done.exception, UserError)
    assert "set BENTOML_HOME" in str(done.exception)
    assert not list(tmp_path.glob("~"))
