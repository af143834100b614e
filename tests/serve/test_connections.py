"""What a worker does before a request exists, over real connections to uvicorn, without BentoML."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from prometheus_client import REGISTRY

from serve.admission import Admission
from serve.app import create_app
from serve.connections import GuardedProtocol
from serve.predictor import Predictor
from serve.settings import Settings
from tests.waiting import PATIENCE, until

BODY = b'{"text": "good"}'
HEAD = b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n" % len(BODY)
REQUEST = HEAD + b"\r\n" + BODY


class Running:
    """A uvicorn server in a thread; its lane of short requests can be filled from outside."""

    def __init__(self, bundle: Path) -> None:
        self.app = create_app(Predictor(Settings(bundle=bundle)), max_queue_ms=50)
        self.admission: Admission = self.app.state.admission
        self.listener = socket.create_server(("127.0.0.1", 0))
        protocol = type(
            "Protocol",
            (GuardedProtocol,),
            {
                "admission": self.admission,
                "read_seconds": PATIENCE,
                "listener": self.listener,
                "origins": ["https://one.example"],
            },
        )
        self.server = uvicorn.Server(
            uvicorn.Config(self.app, http=protocol, log_config=None, timeout_keep_alive=PATIENCE)
        )
        self.protocol = protocol
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        until(lambda: self.server.started)

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.protocol.sweep()
        await self.server.serve(sockets=[self.listener])

    def fill(self) -> None:
        """Put a request of a minute into the lane."""
        self.ticket = asyncio.run_coroutine_threadsafe(self.admission.loop.enter(60.0), self.loop).result(PATIENCE)

    def empty(self) -> None:
        self.loop.call_soon_threadsafe(self.admission.loop._remove, self.ticket)

    def connect(self) -> socket.socket:
        return socket.create_connection(self.listener.getsockname(), timeout=PATIENCE)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(PATIENCE)


@pytest.fixture(scope="module")
def server(tiny_bundle: Path) -> Iterator[Running]:
    server = Running(tiny_bundle)
    yield server
    server.stop()


def answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """The next response: status, headers, body."""
    file = connection.makefile("rb")
    status = int(file.readline().split()[1])
    lines = iter(file.readline, b"\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.decode().partition(":") for line in lines)}
    return status, headers, file.read(int(headers["content-length"]))


def refused() -> float:
    return REGISTRY.get_sample_value("pocketbert_requests_total", {"path": "/classify", "status": "429"}) or 0.0


def test_a_request_is_refused_on_a_connection_that_stays_open(server: Running) -> None:
    before = refused()
    with server.connect() as connection:
        server.fill()
        try:
            connection.sendall(REQUEST)
            status, headers, body = answer(connection)
        finally:
            server.empty()
        assert (status, headers["retry-after"], headers["content-type"]) == (429, "60", "application/json")
        assert "again later" in json.loads(body)["error"]
        assert refused() == before + 1
        connection.sendall(REQUEST)
        assert answer(connection)[0] == 200


def test_a_page_of_a_named_origin_can_read_the_refusal(server: Running) -> None:
    allowed = {}
    server.fill()
    try:
        for origin in (b"https://one.example", b"https://two.example"):
            with server.connect() as connection:
                connection.sendall(HEAD + b"Origin: " + origin + b"\r\n\r\n" + BODY)
                status, headers, _ = answer(connection)
                assert status == 429
                allowed[origin] = (
                    headers.get("access-control-allow-origin"),
                    "retry-after" in headers.get("access-control-expose-headers", ""),
                )
    finally:
        server.empty()
    assert list(allowed.values()) == [("https://one.example", True), (None, False)]


def test_requests_in_one_go_are_answered_in_their_order(server: Running) -> None:
    with server.connect() as connection:
        server.fill()
        try:
            connection.sendall(REQUEST + b"GET /info HTTP/1.1\r\nHost: x\r\n\r\n" + REQUEST)
            assert [answer_of(connection) for _ in range(3)] == [429, 200, 429]
        finally:
            server.empty()


def answer_of(connection: socket.socket) -> int:
    """The status of the next response, read byte by byte: more responses may follow."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += connection.recv(1)
    length = next(
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
    )
    while length:
        length -= len(connection.recv(length))
    return int(head.split()[1])


def test_a_client_that_waits_before_it_sends_the_body_is_refused_without_it(server: Running) -> None:
    with server.connect() as connection:
        server.fill()
        try:
            connection.sendall(HEAD + b"Expect: 100-continue\r\n\r\n")
            status, headers, _ = answer(connection)
        finally:
            server.empty()
        assert (status, headers["connection"]) == (429, "close")
        assert connection.recv(1) == b""


def test_other_paths_are_answered_while_the_lane_is_full(server: Running) -> None:
    server.fill()
    try:
        for path in (b"/info", b"/docs", b"/nowhere"):
            with server.connect() as connection:
                connection.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
                assert answer(connection)[0] in (200, 404)
    finally:
        server.empty()


def test_a_client_that_asks_again_at_once_is_read_after_a_pause(server: Running) -> None:
    def seconds_of_refusals(count: int) -> float:
        with server.connect() as connection:
            start = time.monotonic()
            for _ in range(count):
                connection.sendall(REQUEST)
                assert answer_of(connection) == 429
            return time.monotonic() - start

    many = [server.connect() for _ in range(400)]  # idle, but they count: a pause of a tenth of a second
    try:
        until(lambda: len(server.server.server_state.connections) >= 400)
        server.fill()
        assert seconds_of_refusals(6) > 0.4  # five pauses
    finally:
        server.empty()
        for connection in many:
            connection.close()


def test_many_connections_at_once_are_all_accepted_while_there_is_work(server: Running) -> None:
    server.fill()
    try:
        connections = [server.connect() for _ in range(150)]
        for connection in connections:
            connection.sendall(b"GET /info HTTP/1.1\r\nHost: x\r\n\r\n")
        assert {answer(connection)[0] for connection in connections} == {200}
        for connection in connections:
            connection.close()
    finally:
        server.empty()


@pytest.mark.parametrize("beginning", [b"", b"POST /classify HTTP/1.1\r\nHost: x\r\n", HEAD + b"\r\n{"])
def test_a_connection_without_a_whole_request_is_closed(
    server: Running, beginning: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.protocol, "read_seconds", 0.2)
    start = time.monotonic()
    with server.connect() as connection:
        connection.sendall(beginning)
        assert connection.recv(1) == b""
        assert time.monotonic() - start > 0.2
