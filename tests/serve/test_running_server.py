"""What happens to a server of two workers while it runs: workers die, bundles change, clients are slow."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest

from export.bundle import MANIFEST, Bundle
from tests.conftest import make_tiny_bundle
from tests.waiting import PATIENCE, free_port, until

ROOT = Path(__file__).parents[2]
TOKEN = "a-token-of-24-characters"


@dataclass
class Server:
    """`bentoml serve` over `artifacts`, as in a container, with two workers and a token."""

    home: Path
    settings: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        outside = {
            name: value for name, value in os.environ.items() if not name.startswith(("POCKETBERT_", "BENTOML_"))
        }
        environment = outside | {
            "BENTOML_HOME": str(self.home / "bentoml"),
            "BENTOML_CONTAINERIZED": "true",
            "TMPDIR": str(self.home),
            "POCKETBERT_ARTIFACTS": str(self.home / "artifacts"),
            "POCKETBERT_WORKERS": "2",
            "POCKETBERT_TOKEN": TOKEN,
            "POCKETBERT_READ_SECONDS": "4",
            "POCKETBERT_MAX_QUEUE_MS": "60000",  # a busy machine is no reason to refuse a request here
            **self.settings,
        }
        command = [sys.executable, "-m", "bentoml", "serve", "--host", "127.0.0.1", "--port", str(self.port)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        until(lambda: self.process.poll() is not None or self.status("/readyz") == 200)

    def ask(
        self, path: str, content: dict[str, object] | None = None, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """A request over a connection of its own, so that any worker may get it."""
        headers = {"authorization": f"Bearer {TOKEN}"} | (headers or {})
        method = "GET" if content is None else "POST"
        return httpx.request(
            method,
            f"http://127.0.0.1:{self.port}{path}",
            json=content,
            headers=headers,
            timeout=PATIENCE,
            verify=False,  # plain HTTP; without it, httpx reads certificates for each request
        )

    def status(self, path: str) -> int | None:
        try:
            return self.ask(path).status_code
        except httpx.TransportError:
            return None

    def bundles(self) -> set[str]:
        """The bundles that twenty answers come from."""
        return {self.ask("/classify", {"text": "good"}).headers["x-bundle-sha256"] for _ in range(20)}

    def bundle_metric(self) -> dict[str, float]:
        """The value of `pocketbert_bundle_info` for the hash of each bundle."""
        lines = [one for one in self.ask("/metrics").text.splitlines() if one.startswith("pocketbert_bundle_info{")]
        return {line.split('sha256="')[1][:64]: float(line.split()[-1]) for line in lines}

    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    @property
    def state(self) -> Path:
        [state] = self.home.glob("pocketbert-*")
        return state

    def stop(self) -> str:
        self.process.terminate()
        return self.process.communicate(timeout=PATIENCE)[0]


def bundle_in(home: Path, name: str, created: str) -> Path:
    bundle = make_tiny_bundle(home / "artifacts" / name / "bundle", name=name)
    manifest = json.loads((bundle / MANIFEST).read_text())
    (bundle / MANIFEST).write_text(json.dumps(manifest | {"created": created}))
    return bundle


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    bundle_in(home, "first", "2026-01-01T00:00:00+00:00")
    return home


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Server]:
    server = Server(home)
    try:
        yield server
        output = server.stop()
    finally:
        server.process.kill()
    assert "Traceback" not in output
    assert server.process.returncode == 0
    assert not list(home.glob("pocketbert-*"))  # nothing is left


def test_a_worker_that_dies_is_replaced_and_answers_from_the_same_bundle(server: Server, home: Path) -> None:
    before = server.bundles()
    assert len(before) == 1
    newer = bundle_in(home, "newer", "2026-02-01T00:00:00+00:00")
    assert Bundle(newer).sha256 not in before
    victim, other = server.workers()
    os.kill(victim.pid, signal.SIGKILL)
    for _ in range(20):
        assert server.status("/readyz") == 200  # the other one answers
    until(lambda: len(server.workers()) == 2 and victim not in server.workers())
    [replacement] = [one for one in server.workers() if one != other]
    until((server.state / f"serves-{replacement.pid}").exists)
    assert server.bundles() == before
    assert server.bundle_metric() == dict.fromkeys(before, 1.0)


def test_the_supervisor_takes_no_commands_over_the_network(server: Server) -> None:
    listening = [one for one in psutil.Process(server.process.pid).net_connections("inet") if one.status == "LISTEN"]
    assert {one.laddr.port for one in listening} == {server.port}
    assert server.state.stat().st_mode & 0o077 == 0
    assert (server.state / "control.sock").is_socket()


def test_the_health_check_of_the_image_asks_whether_the_server_is_ready(server: Server) -> None:
    [check] = re.findall(r"^ +CMD (\[.*)$", (ROOT / "deploy" / "Dockerfile").read_text(), re.MULTILINE)
    for port, healthy in ((server.port, True), (free_port(), False)):
        command = [word.replace(":3000/", f":{port}/") for word in json.loads(check)]
        done = subprocess.run([sys.executable, *command[1:]], capture_output=True)
        assert (done.returncode == 0) == healthy


def test_connections_that_send_nothing_or_half_a_request_are_closed(server: Server) -> None:
    beginnings = [
        b"",
        b"POST /classify HTTP/1.1\r\nHost: x\r\n",
        b"POST /info HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf",
    ]
    connections = [socket.create_connection(("127.0.0.1", server.port)) for _ in beginnings]
    for connection, beginning in zip(connections, beginnings, strict=True):
        connection.settimeout(PATIENCE)
        connection.sendall(beginning)
    for connection in connections:
        while connection.recv(4096):  # it ends when the server closes the connection
            pass
        connection.close()


def test_headers_and_paths_that_cannot_be_decoded_leave_no_traceback(server: Server) -> None:
    # The fixture looks for tracebacks at the end.
    for request in (
        b"GET /info HTTP/1.1\r\nHost: caf\xe9\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nUser-Agent: \xff\xfe\r\n\r\n",
        b"POST /classify HTTP/1.1\r\nHost: \xff\r\nContent-Length: 0\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
            connection.sendall(request)
            assert connection.recv(4096).startswith(b"HTTP/1.1 400 ")
    for path in (b"/%ff%fe", b"/caf\xe9", b"/%00"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
            connection.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(4096).split()[1] in (b"400", b"404")


def test_a_bundle_is_swapped_and_rolled_back_under_load_and_a_broken_one_is_refused(server: Server, home: Path) -> None:
    [first] = server.bundles()
    second = bundle_in(home, "second", "2026-03-01T00:00:00+00:00")
    broken = bundle_in(home, "broken", "2026-04-01T00:00:00+00:00")
    (broken / "tokenizer.json").write_text("{}")
    statuses: list[int] = []
    stop = threading.Event()

    def load() -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=PATIENCE) as client:
            client.headers["authorization"] = f"Bearer {TOKEN}"
            while not stop.is_set():
                statuses.append(client.post("/classify", json={"text": "good"}).status_code)

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        answer = server.ask("/admin/reload", {"bundle": str(second)})
        assert answer.json() == {"bundle": Bundle(second).sha256, "workers": 2}
        assert server.bundles() == {Bundle(second).sha256}
        assert server.bundle_metric() == {first: 0.0, Bundle(second).sha256: 1.0}
        refused = server.ask("/admin/reload", {"bundle": str(broken)})
        assert refused.status_code == 409
        assert "the bundle stays as it is" in refused.json()["error"]
        assert server.bundles() == {Bundle(second).sha256}
        assert server.ask("/admin/reload", {"rollback": True}).json() == {"bundle": first, "workers": 2}
        assert server.bundles() == {first}
        assert server.bundle_metric() == {first: 1.0, Bundle(second).sha256: 0.0}
        until(lambda: len(statuses) > 20)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert set(statuses) == {200}


def test_workers_end_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    bundle_in(tmp_path, "tiny", "2026-01-01T00:00:00+00:00")
    server = Server(tmp_path)
    workers = server.workers()
    assert len(workers) >= 2
    server.process.kill()
    server.process.wait()
    _, alive = psutil.wait_procs(workers, timeout=PATIENCE)
    assert not alive
    with socket.create_server(("127.0.0.1", server.port)):
        pass  # the port is free again


@pytest.fixture
def watching(tmp_path: Path) -> Iterator[Server]:
    """A server of version 1 in a directory of versions, with a candidate beside it."""
    make_tiny_bundle(tmp_path / "versions" / "1")
    candidate = make_tiny_bundle(tmp_path / "candidate", name="candidate")
    server = Server(tmp_path, {"POCKETBERT_WATCH": str(tmp_path / "versions"), "POCKETBERT_SHADOW": str(candidate)})
    try:
        yield server
    finally:
        server.process.kill()


def test_a_new_version_is_served_and_a_worker_that_cannot_start_ends_the_server_with_one_line(
    watching: Server, tmp_path: Path
) -> None:
    versions = tmp_path / "versions"
    assert watching.bundles() == {Bundle(versions / "1").sha256}
    agrees = f'pocketbert_shadow_texts_total{{result="agrees",sha256="{Bundle(tmp_path / "candidate").sha256}"}}'
    until(
        lambda: bool(watching.bundles()) and agrees in watching.ask("/metrics").text
    )  # asked while the worker is idle
    make_tiny_bundle(tmp_path / "new", name="new").rename(versions / "2")
    until(lambda: watching.bundle_metric().get(Bundle(versions / "2").sha256) == 1)
    until(lambda: watching.bundles() == {Bundle(versions / "2").sha256})
    for model in watching.state.glob("bundles/*/model.fp32.onnx"):
        model.write_bytes(b"damaged while it runs")
    os.kill(watching.workers()[0].pid, signal.SIGKILL)
    output, _ = watching.process.communicate(timeout=PATIENCE)
    assert watching.process.returncode not in (0, -9)
    lines = [line for line in output.splitlines() if "[INFO]" not in line]
    without_reference = [line for line in lines if "no drift figure; export it again" in line]
    assert len(without_reference) == 2  # once for each version, not once for each worker
    lines = [line for line in lines if line not in without_reference]
    assert len(lines) == 1
    assert "model.fp32.onnx" in lines[0]
    assert "truncated copy" in lines[0]
