"""A connection that sends requests one after the other, and an event loop that wakes up on time."""

from __future__ import annotations

import asyncio
import select
import selectors
import sys
from collections.abc import Callable
from typing import cast

from httptools import HttpParserError, HttpResponseParser

ANSWERED = "answered"  # status 2xx, and the whole body has come
TIMEOUT = "timeout"
RESET = "reset"  # the connection ended before the whole answer had come
NOT_HTTP = "not HTTP"
NONE = -1  # no request


class Connection(asyncio.Protocol):
    """An HTTP/1.1 connection, kept alive. It never sends a request again.

    An answer needs a `Content-Length` or chunks; one that ends with its connection counts as `RESET`.

    :param finished: called with this connection, the number of its request and the outcome; `usable` then says whether it takes
        another.
    """

    def __init__(self, finished: Callable[[Connection, int, str], None]) -> None:
        self.number = NONE  # of the request under way
        self.sent = 0.0
        self.usable = True
        self._finished = finished
        self._parser = HttpResponseParser(self)
        self._complete = self._keep = False
        self._transport: asyncio.Transport | None = None

    def send(self, number: int, request: bytes, now: float) -> None:
        """Send a request."""
        self.number, self.sent = number, now
        cast(asyncio.Transport, self._transport).write(request)

    def end(self, outcome: str | None = None) -> None:
        """Close the connection. With an outcome, that is the one of the request under way."""
        self.usable = False
        if self._transport is not None:
            self._transport.abort()
        if outcome is not None:
            self._report(outcome)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        try:
            self._parser.feed_data(data)
        except HttpParserError:
            self.end(NOT_HTTP)
            return
        if self._complete:  # not in the parser's call-back, which would take any exception for bad HTTP
            self._complete = False
            if not self._keep:
                self.end()
            status = self._parser.get_status_code()
            self._report(ANSWERED if 200 <= status < 300 else f"status {status}")

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self._complete, self._keep = True, self._parser.should_keep_alive()

    def connection_lost(self, error: Exception | None) -> None:
        """Called by asyncio."""
        self.usable = False
        self._report(RESET)

    def _report(self, outcome: str) -> None:
        number, self.number = self.number, NONE
        if number != NONE:
            self._finished(self, number, outcome)


if sys.platform == "linux":

    class _PreciseSelector(selectors.EpollSelector):
        """Sleeps to the microsecond. `epoll_wait` counts in milliseconds, so a request would be sent up to one too late."""

        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            if timeout is not None and timeout > 0:
                select.select([self.fileno()], [], [], timeout)
                timeout = 0
            return super().select(timeout)
else:
    _PreciseSelector = selectors.DefaultSelector


def make_loop() -> asyncio.AbstractEventLoop:
    """An event loop for the measurements. Not uvloop: its timers count in milliseconds too."""
    return asyncio.SelectorEventLoop(_PreciseSelector())
