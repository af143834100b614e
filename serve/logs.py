"""The log of a worker: as BentoML writes it, or one JSON object a line; and only some lines of a kind in a second."""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from collections.abc import Mapping
from contextvars import ContextVar
from time import gmtime, monotonic, strftime
from types import MappingProxyType

LINES_A_SECOND = 20
LOGGERS = ("", "bentoml", "uvicorn.error", "circus")  # those that BentoML gives handlers; "" is above all others
# What names the request that this task answers: `request_id`, `trace_id`, `span_id`, as far as they are known.
REQUEST: ContextVar[Mapping[str, str]] = ContextVar("request", default=MappingProxyType({}))


class RateLimit(logging.Filter):
    """Lets some records of a kind through in a second, and says in the next one how many it kept back.

    Records are of a kind if they have the same text before values are put in. So a flood of one kind, which any client can cause,
    hides no other.
    """

    def __init__(self, lines_a_second: int = LINES_A_SECOND) -> None:
        super().__init__()
        self._most = lines_a_second
        self._second = 0
        self._seen: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write the record."""
        kind, second = str(record.msg), int(monotonic())
        kept_back = 0
        if second != self._second:
            kept_back = sum(number - self._most for number in self._seen.values() if number > self._most)
            self._second = second
            self._seen.clear()
        self._seen[kind] += 1
        if kept_back:
            record.msg, record.args = f"{record.getMessage()} ({kept_back} lines before this were left out)", None
        return self._seen[kind] <= self._most


class JsonFormatter(logging.Formatter):
    """One object a line: time (UTC), level, logger, message, what names the request, and the traceback of an exception."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line = {
            "time": f"{strftime('%Y-%m-%dT%H:%M:%S', gmtime(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **REQUEST.get(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def set_up(form: str) -> None:
    """Limit the log of this process, and write it as JSON if `form` is "json". To be called after BentoML set up its own."""
    limit = RateLimit()
    as_json = logging.StreamHandler(sys.stdout)
    as_json.setFormatter(JsonFormatter())
    for logger in map(logging.getLogger, LOGGERS):
        if logger.handlers:
            logger.handlers = [as_json] if form == "json" else logger.handlers
            logger.propagate = False  # otherwise the handlers of "" would write each line once more
        for handler in logger.handlers:
            if limit not in handler.filters:
                handler.addFilter(limit)
