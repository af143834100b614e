"""A server in a thread whose delays and mistakes are known."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.waiting import PATIENCE


@dataclass
class KnownServer:
    """Answers POST with JSON `{"text": …}` after a delay. What the text says may make it do something else:

    "slow": 100 ms more; "busy": status 429; "leave": closes the connection; "hang": never answers.
    """

    delay: float = 0.002
    # Nothing is answered for a while: a text, the seconds from its first request on, and the length.
    stall: tuple[str, float, float] | None = None
    port: int = 0
    bodies: Counter[str] = field(default_factory=Counter)
    heads: set[bytes] = field(default_factory=set)
    _first: float | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._answer(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        body = (await reader.readexactly(length)).decode()
        self.heads.add(head)
        self.bodies[body] += 1
        text = json.loads(body)["text"] if body.startswith("{") else body
        if self.stall and self._first is None and text == self.stall[0]:
            self._first = asyncio.get_running_loop().time()
        if text == "leave":
            return False
        if text == "hang":
            await asyncio.sleep(PATIENCE)
        await asyncio.sleep(self.delay + (0.1 if text == "slow" else 0))
        if self.stall and self._first is not None:
            begin = self._first + self.stall[1]
            end = begin + self.stall[2]
            if begin <= (now := asyncio.get_running_loop().time()) < end:
                await asyncio.sleep(end - now)
        status = b"429 Too Many Requests" if text == "busy" else b"200 OK"
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\n{}")
        return True


@contextmanager
def running(server: KnownServer) -> Iterator[KnownServer]:
    """Run a server in a thread."""
    ready, loop = threading.Event(), asyncio.new_event_loop()
    over = asyncio.Event()

    async def run() -> None:
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        server.port = listening.sockets[0].getsockname()[1]
        ready.set()
        await over.wait()
        listening.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    assert ready.wait(PATIENCE)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(PATIENCE)
        loop.close()
