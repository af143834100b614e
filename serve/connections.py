"""What a worker does before a request exists: it closes slow connections, and refuses requests while too much work waits.

uvicorn has no time-out for a connection that sends nothing, or a request that never ends. And what it does for a request before
the application sees it, and for an answer, takes as long as half a text: so a flood of requests would leave no time for work if
the application refused them. And uvloop accepts few connections in a turn of its loop, so under a flood a new one, such as a
probe of /readyz, would wait for seconds.
"""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from typing import Any, ClassVar
from weakref import WeakSet

from uvicorn import config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serve.admission import Admission
from serve.guard import ADMITTED, EXPOSED, count
from serve.messages import Refusal, RefusedError
from serve.settings import Settings

SWEEP_SECONDS = 1.0
REFUSALS_A_SECOND = 4_000  # at most, of all connections of a worker together; they take about a third of its time
LONGEST_PAUSE_SECONDS = 0.25
MOST_ACCEPTED = 100  # at once; other workers shall have some too
PATHS = {path.encode(): path for path in ADMITTED}


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol of one connection."""

    read_seconds = 20.0
    admission: Admission | None = None
    origins: ClassVar[list[str]] = []  # of the pages that may ask, or "*"
    accepting: ClassVar[set[asyncio.Task[Any]]] = set()
    open: ClassVar[WeakSet[GuardedProtocol]] = WeakSet()
    waits_since: float | None = None  # when it began to wait for a request or for the rest of one
    listener: socket.socket | None = None
    refusal: bytes | None = None  # the answer to a request that is refused, until its body has been skipped

    def connection_made(self, transport: Any) -> None:
        """A connection without a request is one whose request has not come."""
        super().connection_made(transport)
        self.waits_since = self.loop.time()
        self.open.add(self)
        if self.listener is not None and self.admission is not None and self.admission.loop.wait > 0:
            self._accept_others(self.listener)

    def _accept_others(self, listener: socket.socket) -> None:
        """Take more of the connections that wait, as uvloop has taken this one."""
        for _ in range(MOST_ACCEPTED):
            try:
                connection, _ = listener.accept()
            except OSError:  # there are no more, or too many files are open
                return
            connection.setblocking(False)
            make = partial(type(self), self.config, self.server_state, self.app_state)
            task = self.loop.create_task(self.loop.connect_accepted_socket(make, connection, ssl=self.config.ssl))
            self.accepting.add(task)
            task.add_done_callback(self.accepting.discard)

    def on_message_begin(self) -> None:
        """The first line of a request has begun to come."""
        self.waits_since = self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Refuse the request now if there is too much work, or let uvicorn start it."""
        path = PATHS.get(self.url)
        if path and self.admission and (self.cycle is None or self.cycle.response_complete) and not self.pipeline:
            try:
                self.admission.check()
            except RefusedError as refused:
                count(path, refused.status, 0.0)
                # A client that waits for "100 Continue" does not send the body of a refused request.
                keep = self.parser.should_keep_alive() and not self.expect_100_continue
                self.refusal = _response(refused, self._cors_headers(), keep=keep)
                if self.expect_100_continue:
                    self._refuse(keep)
                return
        super().on_headers_complete()

    def _cors_headers(self) -> str:
        """Without these headers, a page of another origin may not read the refusal. Starlette's layer does not see it."""
        origin = next((value.decode("latin-1") for name, value in self.headers if name == b"origin"), None)
        if origin is None or not {"*", origin} & set(self.origins):
            return ""
        allowed = "*" if "*" in self.origins else origin
        return f"access-control-allow-origin: {allowed}\r\naccess-control-expose-headers: {', '.join(EXPOSED)}\r\nvary: Origin\r\n"

    def on_body(self, body: bytes) -> None:
        """Skip the body of a refused request."""
        if self.refusal is None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The whole request is there. How long its answer takes is not the client's fault."""
        self.waits_since = None
        if self.refusal is None:
            super().on_message_complete()
        else:
            self._refuse(self.parser.should_keep_alive())

    def _refuse(self, keep: bool) -> None:
        """Send the refusal, and read no more for a moment.

        A client may send the next request at once. If it was read at once, refusals would take all the time of the worker.
        """
        if self.refusal is None or self.transport.is_closing():
            return
        self.transport.write(self.refusal)
        self.refusal = None
        if not keep:
            self.transport.close()
            return
        self.flow.pause_reading()
        pause = min(len(self.connections) / REFUSALS_A_SECOND, LONGEST_PAUSE_SECONDS)
        self.loop.call_later(pause, self.flow.resume_reading)
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    @classmethod
    def sweep(cls) -> None:
        """Close what has waited too long, and look again in a second."""
        loop = asyncio.get_running_loop()
        oldest = loop.time() - cls.read_seconds
        for connection in list(cls.open):
            if connection.waits_since is not None and connection.waits_since < oldest:
                connection.transport.close()
        loop.call_later(SWEEP_SECONDS, cls.sweep)


def install(settings: Settings, admission: Admission, listener: socket.socket | None) -> None:
    """Let the uvicorn server of this process, which has not started yet, use `GuardedProtocol`.

    :param listener: the socket at which the server listens.
    """
    GuardedProtocol.read_seconds, GuardedProtocol.admission = settings.read_seconds, admission
    GuardedProtocol.origins, GuardedProtocol.listener = settings.origins, listener
    config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{GuardedProtocol.__name__}"


def _response(refused: RefusedError, headers: str, *, keep: bool) -> bytes:
    body = Refusal(error=str(refused)).model_dump_json().encode()
    head = (
        f"HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        f"retry-after: {refused.retry_after}\r\n{headers}{'' if keep else 'connection: close' + chr(13) + chr(10)}\r\n"
    )
    return head.encode() + body
