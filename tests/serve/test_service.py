"""The command `bentoml serve`, as a user runs it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from onnxruntime import get_available_providers

from tests.waiting import PATIENCE, free_port

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment with its own BENTOML_HOME: BentoML keeps there the metrics files of one server at a time."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("POCKETBERT_", "BENTOML_"))}
    home = str(tmp_path_factory.mktemp("bentoml"))
    path = f"{Path(sys.executable).parent}{os.pathsep}{inherited['PATH']}"
    return inherited | {"PATH": path, "BENTOML_HOME": home, "BENTOML_DO_NOT_TRACK": "True"}


def bentoml_serve(environment: dict[str, str], port: int | None) -> subprocess.Popen[str]:
    command = ["bentoml", "serve", "--host", "127.0.0.1", *([] if port is None else ["--port", str(port)])]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def fails_with_one_line(environment: dict[str, str], port: int | None) -> str:
    """Run the command and return the one line that it prints, apart from BentoML's log.

    It must end by itself with a status other than 0.

    :param port: None leaves out the option `--port`.
    """
    process = bentoml_serve(environment, port)
    try:
        output, _ = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode not in (0, -9)
    lines = [line for line in output.strip().splitlines() if "[INFO]" not in line]
    assert len(lines) == 1, output
    return lines[0]


@pytest.fixture(scope="module")
def server(environment: dict[str, str], tiny_bundle: Path) -> Iterator[httpx.Client]:
    """A running service with two workers. At the end it is told to stop, and must stop without a traceback."""
    port = free_port()
    process = bentoml_serve(environment | {"POCKETBERT_BUNDLE": str(tiny_bundle), "POCKETBERT_WORKERS": "2"}, port)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
            wait_until_ready(client, process)
            yield client
        process.terminate()
        output, _ = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "Traceback" not in output


def wait_until_ready(client: httpx.Client, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    process.kill()
    pytest.fail(process.communicate()[0])


def test_it_answers_and_is_alive_and_ready(server: httpx.Client) -> None:
    assert server.get("/livez").status_code == 200
    assert server.get("/readyz").status_code == 200
    assert server.post("/classify", json={"text": "a good film"}).json()["label"] == "positive"
    results = server.post("/classify", json={"text": ["bad"] * 200}).json()["results"]
    assert [one["label"] for one in results] == ["negative"] * 200


def test_requests_texts_and_labels_are_counted(server: httpx.Client) -> None:
    server.post("/classify", json={"text": ["good", "good"]})
    server.post("/classify", content=b"no JSON")
    metrics = server.get("/metrics").text.splitlines()

    def total(name: str, *labels: str) -> float:
        rows = [row for row in metrics if row.startswith(name) and all(label in row for label in labels)]
        return sum(float(row.split()[-1]) for row in rows)

    assert total("pocketbert_requests_total", 'path="/classify"', 'status="200"') >= 1
    assert total("pocketbert_requests_total", 'path="/classify"', 'status="422"') >= 1
    assert total("pocketbert_request_seconds_count", 'path="/classify"') >= 2
    assert total("pocketbert_texts_total", 'label="positive"') >= 2
    assert total("pocketbert_inference_seconds_count") >= 1


def test_a_client_that_sends_too_much_can_read_why(server: httpx.Client) -> None:
    # Once with a Content-Length, once in chunks without one.
    body = b"x" * 4_000_000
    for content in (body, iter([body] * 2)):
        response = server.post("/classify", content=content)
        assert response.status_code == 413
        assert "1048576 bytes" in response.json()["error"]


def test_the_page_and_what_it_loads_are_served(server: httpx.Client) -> None:
    assert "<!DOCTYPE html>" in server.get("/").text
    assert "swagger-ui" in server.get("/docs").text
    for path in (
        "/page/page.js",
        "/static_content/swagger-ui-bundle.js",
        "/static_content/swagger-ui.css",
        "/openapi.json",
    ):
        assert server.get(path).status_code == 200


def test_no_bundle_ends_the_command_with_one_line(environment: dict[str, str], tmp_path: Path) -> None:
    line = fails_with_one_line(environment | {"POCKETBERT_ARTIFACTS": str(tmp_path)}, free_port())
    assert f"no bundle under {tmp_path}; make one with" in line


@pytest.mark.skipif("CUDAExecutionProvider" in get_available_providers(), reason="this ONNX Runtime has CUDA")
def test_a_model_that_cannot_be_loaded_ends_the_command_with_one_line(
    environment: dict[str, str], tiny_bundle: Path
) -> None:
    # The check runs before the workers start: a worker that fails would be restarted without end.
    settings = {"POCKETBERT_BUNDLE": str(tiny_bundle), "POCKETBERT_DEVICE": "cuda"}
    line = fails_with_one_line(environment | settings, free_port())
    assert "CUDA" in line


def test_an_impossible_setting_ends_the_command_with_one_line(environment: dict[str, str]) -> None:
    line = fails_with_one_line(environment | {"POCKETBERT_WORKERS": "two"}, free_port())
    assert "POCKETBERT_WORKERS=two: set it to a whole number above 0" in line


def test_a_port_in_use_ends_the_command_with_one_line(environment: dict[str, str], tiny_bundle: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        line = fails_with_one_line(environment | {"POCKETBERT_BUNDLE": str(tiny_bundle)}, port)
    assert f"port {port} of 127.0.0.1 is in use" in line


@pytest.mark.parametrize(
    ("options", "cure"),
    [
        (("--port", "80000"), "port 80000: choose one from 1 to 65535 with --port"),
        (("--host", "203.0.113.7", "--port", "3999"), "203.0.113.7:3999: cannot listen there"),
        (("--host", "example.com"), "host example.com: give the address of a network card with --host"),
    ],
)
def test_an_address_that_cannot_be_is_one_line(
    environment: dict[str, str], tiny_bundle: Path, options: tuple[str, ...], cure: str
) -> None:
    command = ["bentoml", "serve", *options]
    given = environment | {"POCKETBERT_BUNDLE": str(tiny_bundle)}
    done = subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode not in (0, None)
    lines = [line for line in (done.stdout + done.stderr).strip().splitlines() if "[INFO]" not in line]
    assert len(lines) == 1
    assert cure in lines[0]


def test_a_port_of_bentoml_s_configuration_is_checked_too(environment: dict[str, str], tiny_bundle: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        configured = {"BENTOML_CONFIG_OPTIONS": f"services.Classifier.http.port={port}"}
        line = fails_with_one_line(environment | {"POCKETBERT_BUNDLE": str(tiny_bundle)} | configured, None)
    assert f"port {port} of 127.0.0.1 is in use" in line
