"""A collector of OpenTelemetry for tests: it takes spans by OTLP over HTTP and decodes them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

SECONDS = 60


@dataclass
class Collector:
    """The spans that were sent, and what was said of the services that sent them."""

    url: str
    spans: list[Span] = field(default_factory=list)
    resources: list[dict[str, str]] = field(default_factory=list)

    def take(self, content: bytes) -> None:
        for one in ExportTraceServiceRequest.FromString(content).resource_spans:
            self.resources.append({item.key: item.value.string_value for item in one.resource.attributes})
            self.spans += [span for scope in one.scope_spans for span in scope.spans]

    def named(self, name: str) -> Span:
        """The span of a name, as soon as it is there."""
        end = time.monotonic() + SECONDS
        while not (found := [one for one in self.spans if one.name == name]):
            assert time.monotonic() < end, [one.name for one in self.spans]
            time.sleep(0.02)
        [span] = found
        return span


@contextmanager
def collector() -> Iterator[Collector]:
    """Run a collector on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert (self.path, self.headers["content-type"]) == ("/v1/traces", "application/x-protobuf")
            found.take(self.rfile.read(int(self.headers["content-length"])))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def attributes(span: Span) -> dict[str, object]:
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in span.attributes}
