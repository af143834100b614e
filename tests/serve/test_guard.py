"""The outermost layer: bounded metrics, undecodable headers, token, CORS, health, the end of a worker."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from prometheus_client import REGISTRY
from starlette.types import Message, Receive, Scope, Send

from serve.app import create_app
from serve.guard import BENTOML_PATHS, Guard
from serve.predictor import Predictor
from serve.settings import Settings
from tests.waiting import PATIENCE

TOKEN = "a-token-of-24-characters"


async def bentoml(scope: Scope, receive: Receive, send: Send) -> None:
    """In the place of BentoML's application: says that it was asked."""
    if scope["type"] == "lifespan":
        await send({"type": "lifespan.startup.complete"})
        return
    await send({"type": "http.response.start", "status": 299, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture(scope="module")
def predictor(tiny_bundle: Path) -> Predictor:
    return Predictor(Settings(bundle=tiny_bundle))


def ask(
    guard: Guard, path: str, body: bytes = b"", method: str = "GET", **headers: bytes
) -> tuple[int, dict[str, str], bytes]:
    """Send a request over ASGI, byte for byte. Returns status, headers and body."""
    given = [(name.replace("_", "-").encode(), value) for name, value in headers.items()]
    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"", "headers": given,
        "root_path": "", "scheme": "http", "server": ("test", 80), "client": ("test", 1), "http_version": "1.1",
    }  # fmt: skip
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    anyio.run(guard, scope, receive, send)
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], found, b"".join(message["body"] for message in sent[1:])


def start(guard: Guard) -> None:
    async def send(_: Message) -> None:
        pass

    anyio.run(guard, {"type": "lifespan"}, None, send)


def make(predictor: Predictor, **settings: Any) -> Guard:
    return Guard(create_app(predictor), bentoml, Settings(**settings))


def classify(guard: Guard, **headers: bytes) -> tuple[int, dict[str, str], bytes]:
    return ask(guard, "/classify", b'{"text": "good"}', "POST", **headers)


def series() -> set[tuple[str, ...]]:
    return {
        (sample.name, *sample.labels.values())
        for metric in REGISTRY.collect()
        for sample in metric.samples
        if sample.name.startswith("pocketbert_request")
    }


def test_random_paths_make_one_series_and_do_not_reach_bentoml(predictor: Predictor) -> None:
    guard = make(predictor)
    assert ask(guard, "/nowhere")[0] == 404
    before = series()
    for number in range(50):
        assert ask(guard, f"/{number}/../{number}")[0] == 404
        assert ask(guard, f"/static_content/{number}")[0] == 404
        assert ask(guard, f"/classify{number}", method="POST")[0] == 404
    assert series() == before
    assert ("pocketbert_requests_total", "other", "404") in before
    assert classify(guard)[0] == 200
    assert ("pocketbert_requests_total", "/classify", "200") in series()


def test_only_the_paths_that_bentoml_serves_reach_it(predictor: Predictor) -> None:
    guard = make(predictor)
    assert {path for path in [*BENTOML_PATHS, "/info", "/docs", "/schema.json"] if ask(guard, path)[0] == 299} == set(
        BENTOML_PATHS
    )


@pytest.mark.parametrize("name", ["host", "user_agent", "traceparent", "x_forwarded_for", "content_length"])
def test_a_header_that_is_not_utf8_is_400_on_every_path(predictor: Predictor, name: str) -> None:
    guard = make(predictor)
    for path in ("/classify", "/info", "/metrics", "/nowhere"):
        status, _, body = ask(guard, path, **{name: b"caf\xe9"})
        assert (status, b"UTF-8" in body) == (400, True)
    assert ask(guard, "/info", **{"user_agent": "café".encode()})[0] == 200


def test_a_token_is_asked_for_where_the_model_is(predictor: Predictor) -> None:
    guard = make(predictor, token=TOKEN)
    for given in ({}, {"authorization": b"Bearer another-token-here"}, {"authorization": TOKEN.encode()}):
        status, headers, body = classify(guard, **given)
        assert (status, headers["www-authenticate"], b"Bearer TOKEN" in body) == (401, "Bearer", True)
        assert ask(guard, "/info", **given)[0] == 401
        assert ask(guard, "/admin/reload", method="POST", **given)[0] == 401
        assert ask(guard, "/docs", **given)[0] == ask(guard, "/livez", **given)[0] == 200
    assert classify(guard, authorization=f"Bearer {TOKEN}".encode())[0] == 200
    assert classify(guard, authorization=f"bearer {TOKEN}".encode())[0] == 200  # the name of the scheme in any case


def test_no_bundle_can_be_changed_without_a_token(predictor: Predictor) -> None:
    status, _, body = ask(make(predictor), "/admin/reload", b"{}", "POST")
    assert (status, b"POCKETBERT_TOKEN" in body) == (403, True)


def test_pages_of_the_named_origins_may_ask(predictor: Predictor) -> None:
    guard = make(predictor, cors="https://one.example, https://two.example", token=TOKEN)
    preflight = {"origin": b"https://two.example", "access_control_request_method": b"POST"}
    status, headers, _ = ask(guard, "/classify", method="OPTIONS", **preflight)
    assert (status, headers["access-control-allow-origin"]) == (200, "https://two.example")
    _, headers, _ = classify(guard, origin=b"https://two.example", authorization=f"Bearer {TOKEN}".encode())
    assert headers["access-control-allow-origin"] == "https://two.example"
    refused, headers, _ = classify(guard, origin=b"https://two.example")  # without the token
    assert (refused, headers["access-control-allow-origin"]) == (
        401,
        "https://two.example",
    )  # so that the page can read why
    assert "access-control-allow-origin" not in classify(guard, origin=b"https://three.example")[1]
    assert "access-control-allow-origin" not in classify(make(predictor), origin=b"https://two.example")[1]


@pytest.fixture
def sigterm() -> Iterator[list[float]]:
    """The times at which the server, in whose place a list stands, was told to stop."""
    stopped: list[float] = []
    before = signal.signal(signal.SIGTERM, lambda *_: stopped.append(time.monotonic()))
    yield stopped
    signal.signal(signal.SIGTERM, before)


def test_readyz_is_503_before_the_start_and_while_the_worker_drains(predictor: Predictor, sigterm: list[float]) -> None:
    guard = make(predictor, drain_seconds=2)

    async def check() -> None:
        async def ready() -> int:
            sent: list[Message] = []

            async def send(message: Message) -> None:
                sent.append(message)

            await guard({"type": "http", "path": "/readyz", "headers": []}, None, send)  # type: ignore[arg-type]
            return sent[0]["status"]

        async def nothing(_: Message) -> None:
            pass

        assert await ready() == 503
        await guard({"type": "lifespan"}, None, nothing)  # type: ignore[arg-type]
        assert await ready() == 200
        begin = time.monotonic()
        os.kill(os.getpid(), signal.SIGTERM)
        assert await ready() == 503
        assert not sigterm  # requests are still taken
        with anyio.fail_after(PATIENCE):
            while not sigterm:
                await anyio.sleep(0.05)
        assert sigterm[0] - begin > 1.9

    anyio.run(check)


def test_without_a_time_to_drain_the_server_is_stopped_at_once(predictor: Predictor, sigterm: list[float]) -> None:
    guard = make(predictor)
    start(guard)
    os.kill(os.getpid(), signal.SIGTERM)
    assert len(sigterm) == 1
    assert ask(guard, "/readyz")[0] == 503
