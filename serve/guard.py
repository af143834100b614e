"""The outermost layer of a worker: what reaches the application, and what is answered before it.

BentoML's own layers lie inside its application. They label metrics with the raw path of a request, so every path that somebody
tries makes a series that is never removed; they fail on headers that are not UTF-8, and take a quarter of the time of a request
to a CNN student. So this layer answers with our application, and asks BentoML's for its static files and for /metrics only.
"""

from __future__ import annotations

import hmac
import re
from functools import cache
from time import perf_counter

from prometheus_client import Counter, Histogram
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.drain import Drain
from serve.logs import REQUEST
from serve.messages import Refusal
from serve.settings import Settings

NAMES = {  # headers that name a request in the log, and what they may hold; traceparent as in W3C Trace Context, section 3.2
    b"x-request-id": ("request_id", re.compile(rb"([!-~]{1,128})")),
    b"traceparent": (
        "trace_id",
        re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?"),
    ),
}
OTHER = "other"  # the label of every path that the service does not have
BENTOML_PATHS = frozenset(
    {
        "/metrics",
        "/static_content/swagger-ui-bundle.js",
        "/static_content/swagger-ui.css",
        "/static_content/favicon-light-32x32.png",
    }
)
WITH_TOKEN = ("/classify", "/explain", "/info", "/admin/")
# Headers that pages of other origins may read.
EXPOSED = ["retry-after", "x-bundle-sha256", "server-timing", "traceresponse"]
ADMITTED = ("/classify", "/explain")  # refused before the body is read if too much work waits
REQUESTS = Counter("pocketbert_requests", "Requests, by path and status of the answer.", ["path", "status"])
SECONDS = Histogram(
    "pocketbert_request_seconds",
    "From the headers of a request to the end of its answer.",
    ["path"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0),
)


class Guard:
    """An ASGI application around ours and BentoML's.

    :param app: answers the requests.
    :param bentoml: starts and stops the service (its lifespan), and answers `BENTOML_PATHS`.
    """

    def __init__(self, app: Starlette, bentoml: ASGIApp, settings: Settings) -> None:
        self.bentoml = bentoml
        self.drain = Drain(settings.drain_seconds)
        self._token = settings.token and settings.token.get_secret_value().encode()
        for path in ADMITTED:  # rates and percentiles are known from the first request on, not from the second
            _counter(path, 200)
            _histogram(path)
        self._paths = {route.path for route in app.routes if isinstance(route, Route)}
        self._app: ASGIApp = app if app.state.tracing is None else app.state.tracing.around(app)
        self._checked: ASGIApp = self._refused_or_answered
        if settings.origins:  # around the refusals too: a page may not read what lacks these headers
            self._checked = CORSMiddleware(
                self._checked,
                allow_origins=settings.origins,
                allow_methods=["GET", "POST"],
                allow_headers=[
                    "authorization",
                    "content-type",
                    "x-request-timeout-ms",
                    "x-request-id",
                    "traceparent",
                    "tracestate",
                ],
                expose_headers=EXPOSED,
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await self.bentoml(scope, receive, self.drain.starting(send))
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        path: str = scope["path"]
        if path == "/readyz":
            await self.drain.readyz()(scope, receive, send)
        elif path in ("/livez", "/healthz"):
            await PlainTextResponse("\n")(scope, receive, send)
        elif path in BENTOML_PATHS:
            await (self._refusal(scope) or self.bentoml)(scope, receive, send)
        else:
            await self._counted(scope, receive, send)

    async def _counted(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = perf_counter()
        path = scope["path"] if scope["path"] in self._paths else OTHER
        status = 500

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._checked(scope, receive, watch)
        finally:
            count(path, status, perf_counter() - start)

    async def _refused_or_answered(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._refusal(scope) or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        """What a request is answered that must not reach an application. None: it may."""
        authorization = b""
        for name, value in scope["headers"]:
            if not (name.isascii() and (value.isascii() or _is_utf8(value))):
                return _json(400, "headers: not UTF-8; send ASCII or UTF-8 values")
            if name == b"authorization":
                authorization = value
            elif name in NAMES:
                field, pattern = NAMES[name]
                if found := pattern.fullmatch(value):
                    REQUEST.set({**REQUEST.get(), field: found[1].decode()})
        asks = scope["path"].startswith(WITH_TOKEN) and scope["method"] != "OPTIONS"
        scheme, _, given = authorization.partition(b" ")
        known = scheme.lower() == b"bearer" and hmac.compare_digest(
            given, self._token or b""
        )  # RFC 9110 §11.1: in any case
        if self._token and asks and not known:
            cure = "authorization: send the header `Authorization: Bearer TOKEN` with the server's token"
            return _json(401, cure, {"www-authenticate": "Bearer"})
        return None


@cache
def _counter(path: str, status: int) -> Counter:
    return REQUESTS.labels(path, status)


@cache
def _histogram(path: str) -> Histogram:
    return SECONDS.labels(path)


def count(path: str, status: int, seconds: float) -> None:
    """Count a request in the metrics, with the time from its headers to the end of its answer."""
    _counter(path, status).inc()
    _histogram(path).observe(seconds)


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _json(status: int, error: str, headers: dict[str, str] | None = None) -> Response:
    return Response(Refusal(error=error).model_dump_json(), status, headers, media_type="application/json")
