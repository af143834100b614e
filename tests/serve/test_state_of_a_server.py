"""What a server leaves on the machine: its own metrics, no usage data, one line where it cannot write."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from compress.runtime.telemetry import OFF, turn_off_telemetry
from serve import bentoml_internals
from tests.waiting import PATIENCE, free_port

ROOT = Path(__file__).parents[2]
TELEMETRY = ("BENTOML_", "ORT_", "HF_", "POCKETBERT_")


def clean_environment(home: Path) -> dict[str, str]:
    """Without the variables that the tests' own environment sets for libraries."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(TELEMETRY)}
    return inherited | {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")}


def serve(environment: dict[str, str], port: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "serve", "--host", "127.0.0.1", "--port", str(port)]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_until_ready(client: httpx.Client) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    pytest.fail("no server")


@pytest.fixture
def two_servers(tmp_path: Path, tiny_bundle: Path) -> Iterator[list[httpx.Client]]:
    """Two servers of one user, the second started after the first has answered."""
    environment = clean_environment(tmp_path) | {"POCKETBERT_BUNDLE": str(tiny_bundle)}
    processes, clients = [], []
    try:
        for text in ("good", "bad"):
            port = free_port()
            processes.append(serve(environment, port))
            clients.append(httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE))
            wait_until_ready(clients[-1])
            assert clients[-1].post("/classify", json={"text": text}).status_code == 200
        yield clients
    finally:
        for client in clients:
            client.close()
        for process in processes:
            process.terminate()
        for process in processes:
            process.communicate(timeout=PATIENCE)


def test_two_servers_of_one_user_count_each_its_own_requests(two_servers: list[httpx.Client], tmp_path: Path) -> None:
    first, second = (client.get("/metrics").text for client in two_servers)
    assert 'pocketbert_texts_total{label="positive"} 1.0' in first
    assert "negative" not in first
    assert "pocketbert_inference_seconds_count 1.0" in first  # the second server did not delete it
    assert 'pocketbert_texts_total{label="negative"} 1.0' in second
    assert "positive" not in second
    assert not (tmp_path / ".cache" / "Microsoft").exists()


OPEN_A_MODEL = (
    "import sys; from pathlib import Path; from export.session import OnnxModel; OnnxModel(Path(sys.argv[1]))"
)


def test_onnx_runtime_leaves_no_identifier_on_the_machine(tmp_path: Path, tiny_bundle: Path) -> None:
    command = [sys.executable, "-c", OPEN_A_MODEL, str(tiny_bundle / "model.fp32.onnx")]
    subprocess.run(command, cwd=ROOT, env=clean_environment(tmp_path), check=True)
    assert [path for path in tmp_path.rglob("*") if "onnxruntime" in path.name] == []


@pytest.mark.parametrize(
    ("chosen", "ort", "bentoml"),
    [
        ({}, "1", True),
        ({"POCKETBERT_TELEMETRY": "1"}, None, False),
        ({"BENTOML_DO_NOT_TRACK": "False"}, "1", False),
    ],
)
def test_usage_data_are_sent_only_if_the_user_asks_for_it(
    monkeypatch: pytest.MonkeyPatch, chosen: dict[str, str], ort: str | None, bentoml: bool
) -> None:
    for name in (*OFF, "POCKETBERT_TELEMETRY"):
        monkeypatch.setenv(name, "")  # so that the end of the test restores it
        monkeypatch.delenv(name)
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)
    bentoml_internals.do_not_track()  # BentoML remembers the answer that it had before the service was imported
    turn_off_telemetry()
    bentoml_internals.read_telemetry_setting_again()
    assert os.environ.get("ORT_DISABLE_TELEMETRY") == ort
    assert bentoml_internals.do_not_track() == bentoml


def test_a_home_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    process = serve(clean_environment(tmp_path / "file"), free_port())
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert len(output.strip().splitlines()) == 1
    assert "BENTOML_HOME" in output
