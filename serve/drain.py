"""The end of a worker: after SIGTERM it may go on for some seconds, so that a load balancer sees that it is about to stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.types import Message, Send


class Drain:
    """What `/readyz` says: 503 before the worker has started and after it was told to stop, 200 between.

    :param seconds: how long the worker takes new requests after SIGTERM. Zero: it closes its socket at once. In both cases it
        answers what it has taken.
    """

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds
        self._ready = self._draining = False

    def starting(self, send: Send) -> Send:
        """`send` of a lifespan, which sees when the start is complete."""

        async def watch(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                self._ready = True
                self._catch_sigterm()
            await send(message)

        return watch

    def readyz(self) -> PlainTextResponse:
        """The answer to `GET /readyz`."""
        if self._draining:
            return PlainTextResponse("stopping\n", 503)
        return PlainTextResponse("\n" if self._ready else "starting\n", 200 if self._ready else 503)

    def _catch_sigterm(self) -> None:
        loop = asyncio.get_running_loop()
        server: Any = signal.getsignal(signal.SIGTERM)  # uvicorn's: it stops the server
        if not isinstance(server, Callable):  # type: ignore[arg-type]
            return

        def stop(number: int, frame: FrameType | None) -> None:
            if self._draining or not self._seconds:
                self._draining = True
                server(number, frame)
                return
            self._draining = True
            loop.call_soon_threadsafe(loop.call_later, self._seconds, server, number, frame)

        signal.signal(signal.SIGTERM, stop)
