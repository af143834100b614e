"""Spans of OpenTelemetry: a collector gets them, they continue the client's trace, and nothing happens where nobody asks."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette

from compress.runtime.errors import UserError
from serve import tracing
from serve.app import create_app
from serve.guard import Guard
from serve.logs import JsonFormatter
from serve.predictor import Predictor
from serve.settings import Settings
from tests.conftest import make_tiny_bundle
from tests.serve.collector import Collector, attributes, collector
from tests.serve.test_guard import ask, bentoml
from tests.serve.test_running_server import Server, bundle_in
from tests.tiny_cascade import add_cascade

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
BODY = b'{"text": "good"}'


@pytest.fixture(autouse=True)
def _no_variables_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collector() as one:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", one.url)
        yield one


def guard_of(bundle: Path) -> tuple[Guard, Starlette]:
    settings = Settings(bundle=bundle)
    app = create_app(Predictor(settings))
    app.state.tracing = tracing.start()
    return Guard(app, bentoml, settings), app


def test_a_request_is_a_span_with_one_for_each_model_that_answered(tmp_path: Path, found: Collector) -> None:
    bundle = add_cascade(make_tiny_bundle(tmp_path / "bundle"), threshold=1.0)
    guard, app = guard_of(bundle)
    status, headers, _ = ask(guard, "/classify", BODY, "POST")
    app.state.tracing.stop()
    span, student, teacher = (found.named(name) for name in ("POST /classify", "student", "teacher"))
    assert status == 200
    assert headers["traceresponse"][:53] == f"00-{span.trace_id.hex()}-{span.span_id.hex()}-"
    assert attributes(span) == {
        "http.request.method": "POST", "url.path": "/classify", "http.route": "/classify", "http.response.status_code": 200,
    }  # fmt: skip
    assert span.kind == span.SPAN_KIND_SERVER
    assert not span.parent_span_id
    for one in (student, teacher):
        assert (one.trace_id, one.parent_span_id) == (span.trace_id, span.span_id)
        assert span.start_time_unix_nano - 1_000_000 <= one.start_time_unix_nano < one.end_time_unix_nano
        assert 0 <= float(str(attributes(one)["pocketbert.queue_ms"])) < 60_000
    assert student.end_time_unix_nano <= teacher.end_time_unix_nano <= span.end_time_unix_nano
    [resource] = found.resources
    assert resource["service.name"] == "pocketbert"


def test_a_request_continues_the_trace_of_its_client(
    tiny_bundle: Path, found: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "tickets")
    guard, app = guard_of(tiny_bundle)
    _, headers, _ = ask(guard, "/classify", BODY, "POST", traceparent=f"00-{TRACE}-{PARENT}-01".encode())
    app.state.tracing.stop()
    span = found.named("POST /classify")
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert headers["traceresponse"].startswith(f"00-{TRACE}-")
    assert found.resources[0]["service.name"] == "tickets"


def test_what_is_not_sampled_or_not_for_a_model_is_not_sent(tiny_bundle: Path, found: Collector) -> None:
    guard, app = guard_of(tiny_bundle)
    assert ask(guard, "/info")[0] == 200
    assert ask(guard, "/nowhere")[0] == 404
    unsampled = ask(guard, "/classify", BODY, "POST", traceparent=f"00-{TRACE}-{PARENT}-00".encode())
    wrong = ask(guard, "/classify", b"{}", "POST", traceparent=b"00-wrong")
    odd = ask(guard, "/classify", BODY, "POST", traceparent=b"\xff\xfe")
    app.state.tracing.stop()
    assert [one[0] for one in (unsampled, wrong, odd)] == [200, 422, 400]
    assert unsampled[1]["traceresponse"].endswith("-00")
    assert attributes(found.named("POST /classify"))["http.response.status_code"] == 422
    assert len(found.spans) == 1


def test_a_collector_that_is_not_there_costs_no_request_and_delays_no_end(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setattr(tracing, "LAST_SECONDS", 0.1)
    guard, app = guard_of(tiny_bundle)
    assert ask(guard, "/classify", BODY, "POST")[0] == 200
    start = time.monotonic()
    app.state.tracing.stop()
    assert time.monotonic() - start < 8  # the exporter goes on trying for ten seconds


@pytest.mark.parametrize("value", [f"00-{TRACE}-{PARENT}-01", f"cc-{TRACE}-{PARENT}-01-more"])
def test_the_log_names_the_request_without_any_exporter(tiny_bundle: Path, value: str) -> None:
    guard, app = guard_of(tiny_bundle)
    lines: list[dict[str, str]] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(json.loads(JsonFormatter().format(record)))

    def fail(_: object) -> None:
        logger.error("as it fails")
        raise UserError("no")

    logger = logging.getLogger("test_tracing")
    logger.addHandler(Handler())
    app.state.predictor.parse = fail
    with pytest.raises(UserError):
        ask(guard, "/classify", BODY, "POST", traceparent=value.encode(), x_request_id=b"abc-1")
    with pytest.raises(UserError):
        ask(
            guard,
            "/classify",
            BODY,
            "POST",
            traceparent=b"00-" + b"0" * 32 + b"-00f067aa0ba902b7-01",
            x_request_id=b"a b",
        )
    named = [{k: v for k, v in line.items() if k in ("trace_id", "request_id", "span_id")} for line in lines]
    assert named == [{"trace_id": TRACE, "request_id": "abc-1"}, {}]


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_the_standard_variables_ask_for_spans(
    variables: dict[str, str], wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert tracing.is_wanted() is wanted


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER=zipkin: set it to otlp or none"),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL=grpc: set it to http/protobuf, and the endpoint to the collector's port for HTTP (4318)",
        ),
    ],
)
def test_what_the_service_cannot_do_is_one_line(
    variables: dict[str, str], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as error:
        tracing.is_wanted()
    assert str(error.value) == line


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setattr(tracing, "EXPORTER", "opentelemetry.exporter.absent.proto.http")
    with pytest.raises(UserError, match=r"not installed: pip install 'pocketbert\[otel\]'"):
        tracing.is_wanted()


def test_nothing_is_imported_where_nobody_asks() -> None:
    code = "import sys; from serve import tracing; tracing.start(); print([m for m in sys.modules if 'opentelemetry' in m])"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_server_sends_its_spans_before_it_ends(tmp_path: Path, found: Collector) -> None:
    bundle_in(tmp_path, "first", "2026-01-01T00:00:00+00:00")
    server = Server(tmp_path, {"OTEL_EXPORTER_OTLP_ENDPOINT": found.url, "POCKETBERT_WORKERS": "1"})
    try:
        answer = server.ask("/classify", {"text": "good"})
    finally:
        log = server.stop()
    span = found.named("POST /classify")
    assert answer.headers["traceresponse"].split("-")[2] == span.span_id.hex(), log
    assert found.named("student").parent_span_id == span.span_id
    assert "Traceback" not in log
