"""The HTTP interface: a Starlette application that asks a predictor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, perf_counter
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from prometheus_client import Counter, Histogram
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from serve.admin import answer_with, reload
from serve.admission import Admission, ClientLeftError
from serve.explain import runs
from serve.messages import Predictions, Refusal, RefusedError, Request
from serve.openapi import PAGE, document
from serve.page import page_routes
from serve.predictor import Predictor

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")
BUNDLE_HEADER = "x-bundle-sha256"
TIMEOUT_HEADER = "x-request-timeout-ms"
CLIENT_LEFT = 499  # nginx's number for it; only the metrics see it
TEXTS = Counter("pocketbert_texts", "Texts (or pairs) classified, by the label they got.", ["label"])
ANSWERED = Counter("pocketbert_answered", "Texts (or pairs) that each model of a cascade answered.", ["model"])
SECONDS = Histogram(
    "pocketbert_inference_seconds",
    "Tokenising and running the model for one request, without HTTP and JSON.",
    buckets=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0),
)


def create_app(predictor: Predictor | None = None, *, page: bool = True, max_queue_ms: int = 500) -> Starlette:
    """Make the application.

    :param predictor: answers the requests. Without it, call `answer_with` before the first request.
    :param page: whether `/` is the page for people. Otherwise it is the OpenAPI page, as `/docs` always is.
    :param max_queue_ms: a request that would wait longer before it runs is refused with 429.
    """
    app = Starlette(
        routes=[
            Route("/classify", classify, methods=["POST"]),
            Route("/explain", explain, methods=["POST"]),
            Route("/info", info),
            Route("/admin/reload", reload, methods=["POST"]),
            # BentoML has a page and a document at these paths too, but they do not mention a mounted application.
            *(page_routes() if page else [Route("/", docs)]),
            Route("/docs", docs),
            Route("/docs.json", openapi),
            Route("/openapi.json", openapi),
        ],
        exception_handlers={
            RefusedError: _on_refused,
            ClientDisconnect: _on_client_left,
            ClientLeftError: _on_client_left,
            HTTPException: _on_http_error,
            Exception: _on_failure,
        },
    )
    app.state.tracing = None  # makes spans of requests (`serve.tracing`)
    app.state.shadow = None  # a candidate beside the predictor (`serve.shadow`)
    app.state.predictor = None
    if predictor is not None:
        answer_with(app, predictor)
    app.state.server = None  # the directory of the server (`serve.bundle_choice`), if its bundle may be changed
    app.state.admission = Admission(max_queue_ms / 1000)
    # One batch at a time. The batch already uses all threads of the worker; a second batch would only take more memory.
    app.state.batches = CapacityLimiter(1)
    return app


async def classify(http: HttpRequest) -> Response:
    """`POST /classify`: label and probability of a text, or of each text of a list."""
    predictor: Predictor = http.app.state.predictor
    request = await read_request(http, predictor)
    seconds, deadline = predictor.seconds(request), _deadline(http)
    quick = predictor.is_quick(seconds)
    draft, spent = await run_in_turn(http, "student", predictor.begin, request, seconds, deadline, quick=quick)
    if predictor.drift is not None:
        predictor.drift.saw(request.domain or predictor.default_domain, draft.encoded, draft.probabilities)
    answer = draft.answer
    if answer is None:
        seconds = predictor.teacher_seconds(draft)
        finished, more = await run_in_turn(http, "teacher", predictor.finish, draft, seconds, deadline, quick=False)
        answer, spent = finished, spent + more
    for prediction in answer.results if isinstance(answer, Predictions) else [answer]:
        TEXTS.labels(prediction.label).inc()
        if prediction.model is not None:
            ANSWERED.labels(prediction.model).inc()
    if http.app.state.shadow is not None:
        http.app.state.shadow.offer(request, answer)
    return _json(answer, headers={BUNDLE_HEADER: predictor.info.bundle, "server-timing": spent.header})


async def read_request(http: HttpRequest, predictor: Predictor) -> Request:
    """Read and check the body of a request.

    :raises RefusedError: 413, 422.
    """
    return predictor.parse(await _read(http, predictor.limits.body_bytes))


@dataclass(frozen=True)
class Spent:
    """Seconds that a request waited and ran."""

    waited: float
    ran: float

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.waited + other.waited, self.ran + other.ran)

    @property
    def header(self) -> str:
        """The value of a Server-Timing header, in milliseconds."""
        return f"queue;dur={1000 * self.waited:.2f}, run;dur={1000 * self.ran:.2f}"


async def run_in_turn(
    http: HttpRequest,
    name: str,
    function: Callable[[Asked], Answer],
    asked: Asked,
    seconds: float,
    deadline: float | None,
    *,
    quick: bool,
) -> tuple[Answer, Spent]:
    """Call `function` when its turn has come, on the event loop if it is quick and in a thread otherwise.

    :param name: of the span, if there is tracing.
    :param asked: its argument.
    :param seconds: the forecast of its time.
    :param deadline: see `_deadline`.
    :returns: its result, and how long it waited and ran.
    :raises RefusedError: 429, too much work waits; 504, the client's time is over; and those of `function`.
    :raises ClientLeftError: the client left before the turn came.
    """
    admission: Admission = http.app.state.admission
    lane = admission.loop if quick else admission.thread
    ticket = await lane.enter(seconds, deadline=deadline, has_left=lambda: _has_left(http))
    try:
        if quick:
            answer = _timed(function, asked)
        else:
            answer = await to_thread.run_sync(_timed, function, asked, limiter=http.app.state.batches)
    finally:
        lane.leave(ticket)
    spent = Spent(ticket.began - ticket.joined, monotonic() - ticket.began)
    if http.app.state.tracing is not None:
        http.app.state.tracing.ran(name, spent.waited, spent.ran)
    return answer, spent


async def explain(http: HttpRequest) -> Response:
    """`POST /explain`: label and probability of a text, and how much each of its words speaks for the label."""
    predictor: Predictor = http.app.state.predictor
    request = await read_request(http, predictor)
    seconds = predictor.seconds(request) * runs(request, predictor.info.max_length)
    quick = predictor.is_quick(seconds)
    answer, spent = await run_in_turn(
        http, "explain", predictor.explain, request, seconds, _deadline(http), quick=quick
    )
    return _json(answer, headers={BUNDLE_HEADER: predictor.info.bundle, "server-timing": spent.header})


async def info(http: HttpRequest) -> Response:
    """`GET /info`: the bundle, its labels, the precision and the limits."""
    return _json(http.app.state.predictor.info)


async def openapi(http: HttpRequest) -> Response:
    """`GET /openapi.json`: the OpenAPI document of this interface, for the bundle that is served."""
    return JSONResponse(document(http.app.state.predictor.info))


async def docs(_: HttpRequest) -> Response:
    """`GET /docs`: a page that shows the OpenAPI document."""
    return HTMLResponse(PAGE)


def _timed(function: Callable[[Asked], Answer], asked: Asked) -> Answer:
    # Called inside the thread, so that the wait for a free thread is not counted.
    start = perf_counter()
    answer = function(asked)
    SECONDS.observe(perf_counter() - start)
    return answer


def _has_left(http: HttpRequest) -> bool:
    """Whether the client has closed the connection. It does not wait: `is_disconnected` waits for a turn of the event loop."""
    step = http.receive()
    try:
        step.send(None)  # type: ignore[attr-defined]
    except StopIteration as end:
        return end.value["type"] == "http.disconnect"
    finally:
        step.close()  # type: ignore[attr-defined]
    return False


def _deadline(http: HttpRequest) -> float | None:
    """The time (`monotonic`) until which the client waits, from a header. None: it did not say.

    :raises RefusedError: the header is not a number of milliseconds.
    """
    given = http.headers.get(TIMEOUT_HEADER)
    if given is None:
        return None
    if not (given.isascii() and given.isdecimal() and len(given) < 10):
        raise RefusedError(f"{TIMEOUT_HEADER}: must be a whole number of milliseconds")
    return monotonic() + int(given) / 1000


async def _read(http: HttpRequest, limit: int) -> bytes:
    """Read the body.

    :raises RefusedError: the body has more than `limit` bytes. It is raised as soon as that is known.
    """
    refused = RefusedError(f"body: more than {limit} bytes; send fewer or shorter texts", 413)
    content_length = http.headers.get("content-length", "")
    if content_length.isdecimal() and int(content_length) > limit:
        raise refused
    body = bytearray()
    async for chunk in http.stream():
        body += chunk
        if len(body) > limit:
            raise refused
    return bytes(body)


def _json(model: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(model.model_dump_json(exclude_none=True), status, headers, media_type="application/json")


async def _on_refused(_: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    headers = None if error.retry_after is None else {"retry-after": str(error.retry_after)}
    return _json(Refusal(error=str(error)), error.status, headers)


async def _on_client_left(_: HttpRequest, __: Exception) -> Response:
    return Response(status_code=CLIENT_LEFT)


async def _on_http_error(http: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = _json(Refusal(error=f"{http.method} {http.url.path}: {error.detail}"), error.status_code)
    response.headers.update(error.headers or {})
    return response


async def _on_failure(_: HttpRequest, __: Exception) -> Response:
    # After this response Starlette raises the error again, and the server logs it.
    return _json(Refusal(error="the server failed on this request; its log has the cause"), 500)
