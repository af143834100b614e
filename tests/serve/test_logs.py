"""The log: one JSON object a line if asked for, and bounded."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from serve.logs import LOGGERS, JsonFormatter, RateLimit, set_up


@pytest.fixture
def loggers() -> Iterator[None]:
    """The logging of this process is as before after the test."""
    before = [(one, one.handlers[:], one.propagate) for one in map(logging.getLogger, LOGGERS)]
    yield
    for one, handlers, propagate in before:
        one.handlers, one.propagate = handlers, propagate


def test_a_line_is_a_json_object_with_time_level_logger_and_traceback(
    loggers: None, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("bentoml")
    logger.handlers = [logging.StreamHandler()]
    set_up("json")
    try:
        raise ValueError("two\nlines: é")
    except ValueError:
        logger.exception("it failed on %s", "this")
    [line] = capsys.readouterr().out.splitlines()
    content = json.loads(line)
    assert (content["level"], content["logger"], content["message"]) == ("error", "bentoml", "it failed on this")
    assert content["exception"].endswith("ValueError: two\nlines: é")
    assert content["time"].endswith("Z")


def test_a_flood_of_lines_is_cut_and_said_to_be_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("serve.logs.monotonic", lambda: now[0])
    limit = RateLimit(3)

    def written(message: str) -> str | None:
        record = logging.LogRecord("bentoml", logging.WARNING, __file__, 1, message, None, None)
        return json.loads(JsonFormatter().format(record))["message"] if limit.filter(record) else None

    assert [written("invalid request") for _ in range(5)] == ["invalid request"] * 3 + [None, None]
    assert written("something else") == "something else"
    now[0] += 1
    assert written("another") == "another (2 lines before this were left out)"
    assert written("the next") == "the next"


def test_the_log_as_text_keeps_its_handlers_and_is_limited_too(loggers: None) -> None:
    logger = logging.getLogger("circus")
    logger.handlers = [handler := logging.NullHandler()]
    set_up("text")
    assert logger.handlers == [handler]
    assert any(isinstance(one, RateLimit) for one in handler.filters)
