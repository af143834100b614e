"""The HTTP interface: a Starlette application that asks a predictor."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

from anyio import CapacityLimiter, to_thread
from prometheus_client import Counter, Histogram
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from serve.messages import Prediction, Predictions, Refusal, RefusedError, Request
from serve.openapi import PAGE, document
from serve.page import page_routes
from serve.predictor import Predictor

TEXTS = Counter("pocketbert_texts", "Texts (or pairs) classified, by the label they got.", ["label"])
SECONDS = Histogram(
    "pocketbert_inference_seconds",
    "Tokenising and running the model for one request, without HTTP and JSON.",
    buckets=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0),
)


def create_app(predictor: Predictor | None = None, *, page: bool = True) -> Starlette:
    """Make the application.

    :param predictor: answers the requests. Without it, set `app.state.predictor` before the first request.
    :param page: whether `/` is the page for people. Otherwise it is the OpenAPI page, as `/docs` always is.
    """
    app = Starlette(
        routes=[
            Route("/classify", classify, methods=["POST"]),
            Route("/explain", explain, methods=["POST"]),
            Route("/info", info),
            # BentoML has a page and a document at these paths too, but they do not mention a mounted application.
            *(page_routes() if page else [Route("/", docs)]),
            Route("/docs", docs),
            Route("/docs.json", openapi),
            Route("/openapi.json", openapi),
        ],
        exception_handlers={
            RefusedError: _on_refused,
            ClientDisconnect: _on_disconnect,
            HTTPException: _on_http_error,
            Exception: _on_failure,
        },
    )
    app.state.predictor = predictor
    # One batch at a time. The batch already uses all threads of the worker; a second batch would only take more memory.
    app.state.batches = CapacityLimiter(1)
    return app


async def classify(http: HttpRequest) -> Response:
    """`POST /classify`: label and probability of a text, or of each text of a list."""
    predictor: Predictor = http.app.state.predictor
    request = predictor.parse(await _read(http, predictor.limits.body_bytes))
    if predictor.is_quick(request):
        answer = _timed(predictor.classify, request)
    else:
        answer = await to_thread.run_sync(_timed, predictor.classify, request, limiter=http.app.state.batches)
    for prediction in answer.results if isinstance(answer, Predictions) else [answer]:
        TEXTS.labels(prediction.label).inc()
    return _json(answer)


async def explain(http: HttpRequest) -> Response:
    """`POST /explain`: label and probability of a text, and how much each of its words speaks for the label."""
    predictor: Predictor = http.app.state.predictor
    request = predictor.parse(await _read(http, predictor.limits.body_bytes))
    return _json(await to_thread.run_sync(predictor.explain, request, limiter=http.app.state.batches))


async def info(http: HttpRequest) -> Response:
    """`GET /info`: the bundle, its labels, the precision and the limits."""
    return _json(http.app.state.predictor.info)


async def openapi(http: HttpRequest) -> Response:
    """`GET /openapi.json`: the OpenAPI document of this interface, for the bundle that is served."""
    return JSONResponse(document(http.app.state.predictor.info))


async def docs(_: HttpRequest) -> Response:
    """`GET /docs`: a page that shows the OpenAPI document."""
    return HTMLResponse(PAGE)


def _timed(function: Callable[[Request], Prediction | Predictions], request: Request) -> Prediction | Predictions:
    # Called inside the thread, so that the wait for a free thread is not counted.
    start = perf_counter()
    answer = function(request)
    SECONDS.observe(perf_counter() - start)
    return answer


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


def _json(model: BaseModel, status: int = 200) -> Response:
    return Response(model.model_dump_json(exclude_none=True), status, media_type="application/json")


async def _on_refused(_: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    return _json(Refusal(error=str(error)), error.status)


async def _on_disconnect(_: HttpRequest, __: Exception) -> Response:
    return Response(status_code=400)  # the client is gone and does not read it


async def _on_http_error(http: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = _json(Refusal(error=f"{http.method} {http.url.path}: {error.detail}"), error.status_code)
    response.headers.update(error.headers or {})
    return response


async def _on_failure(_: HttpRequest, __: Exception) -> Response:
    # After this response Starlette raises the error again, and the server logs it.
    return _json(Refusal(error="the server failed on this request; its log has the cause"), 500)
