"""Spans of OpenTelemetry, sent by OTLP over HTTP if the variables OTEL_* of its specification ask for it.

BentoML can trace too, but by a layer inside its own application, which requests to a model do not pass (see `serve.guard`), and by
settings of its own. Its layer, OpenTelemetry's for ASGI, takes three times as long for a span. Nothing of OpenTelemetry is imported here
before `start`.
"""

from __future__ import annotations

import os
from contextlib import suppress
from importlib.metadata import version
from importlib.util import find_spec
from threading import Thread
from time import time_ns
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from compress.runtime.errors import UserError
from serve.logs import REQUEST

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

EXPORTER = "opentelemetry.exporter.otlp.proto.http"
LAST_SECONDS = 3.0  # for the last spans; a collector that is not there is tried again for ten
TRACED = ("/classify", "/explain")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")  # the first that is set counts


def is_wanted() -> bool:
    """Whether the environment asks for spans.

    :raises UserError: it asks for an exporter or a protocol that the service does not have, or the package is not installed.
    """
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "")
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or exporter == "none":
        return False
    if exporter not in ("", "otlp"):
        raise UserError(f"OTEL_TRACES_EXPORTER={exporter}: set it to otlp or none")
    places = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    if not (exporter or any(os.environ.get(name) for name in places)):
        return False
    name = next((name for name in PROTOCOLS if os.environ.get(name)), None)
    if name is not None and os.environ[name] != "http/protobuf":
        raise UserError(
            f"{name}={os.environ[name]}: set it to http/protobuf, and the endpoint to the collector's port for HTTP (4318)"
        )
    with suppress(ModuleNotFoundError):  # `find_spec` imports the packages above
        if find_spec(EXPORTER) is not None:
            return True
    raise UserError(
        "the variables OTEL_* ask for spans, and OpenTelemetry's exporter is not installed: pip install 'pocketbert[otel]', or set "
        "OTEL_TRACES_EXPORTER=none"
    )


def start() -> Tracing | None:
    """Make what traces the requests of this process. None: the environment does not ask for spans.

    :raises UserError: see `is_wanted`.
    """
    if not is_wanted():
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    own = Resource(
        {
            "service.name": "pocketbert",
            "service.version": version("pocketbert"),
            "service.instance.id": str(os.getpid()),
        }
    )
    # What the environment says goes before that. Sampler, limits and the place of the collector come from it too.
    resource = Resource.create().merge(own).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)  # see `Tracing.stop`
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider)


class Tracing:
    """Makes a span of each request, and one in it for each model that answered. It continues the trace of the client.

    :param provider: of OpenTelemetry's SDK.
    """

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry import propagate

        self._provider = provider
        self._tracer = provider.get_tracer("pocketbert")
        self._propagator = propagate.get_global_textmap()  # W3C's, unless OTEL_PROPAGATORS names others
        self._fields = {name.encode() for name in self._propagator.fields}

    def around(self, app: ASGIApp) -> ASGIApp:
        """An application that answers as `app`, with a span for what a model is asked. W3C's header `traceresponse` names it."""
        from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id

        async def traced(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["path"] not in TRACED:
                await app(scope, receive, send)
                return
            carrier = {name.decode(): value.decode() for name, value in scope["headers"] if name in self._fields}
            context = self._propagator.extract(carrier) if carrier else None
            method, path = scope["method"], scope["path"]
            attributes = {"http.request.method": method, "url.path": path, "http.route": path}
            with self._tracer.start_as_current_span(
                f"{method} {path}", context=context, kind=SpanKind.SERVER, attributes=attributes
            ) as span:
                known = span.get_span_context()
                trace, number = format_trace_id(known.trace_id), format_span_id(known.span_id)
                REQUEST.set({**REQUEST.get(), "trace_id": trace, "span_id": number})
                response = f"00-{trace}-{number}-{known.trace_flags:02x}".encode()

                async def watch(message: Message) -> None:
                    if message["type"] == "http.response.start":
                        span.set_attribute("http.response.status_code", message["status"])
                        if message["status"] >= 500:
                            span.set_status(StatusCode.ERROR)
                        message["headers"] = [*message["headers"], (b"traceresponse", response)]
                    await send(message)

                await app(scope, receive, watch)

        return traced

    def ran(self, name: str, waited: float, seconds: float) -> None:
        """Add what a model did, and has just finished, to the span of this request.

        :param waited: seconds before it began.
        :param seconds: that it took.
        """
        now = time_ns()
        span = self._tracer.start_span(
            name,
            start_time=now - round(seconds * 1e9),
            attributes={"pocketbert.queue_ms": round(1000 * waited, 3)},
        )
        span.end(now)

    def stop(self) -> None:
        """Send the spans that are left, if the collector takes them soon: the end of a worker must not wait for it."""
        last = Thread(target=self._provider.shutdown, daemon=True)
        last.start()
        last.join(LAST_SECONDS)
