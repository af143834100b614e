"""Sends requests in an open or a closed loop, and takes the raw samples.

Open loop: request i is due at i / rate, whether or not earlier answers have come, and its time is counted from then. So a server that
stands still for a second has a second's worth of slow requests. A closed loop has one, and asks nothing meanwhile: Tene calls
that coordinated omission ("How NOT to Measure Latency", 2015); wrk2 counts from the planned time for the same reason.
"""

from __future__ import annotations

import asyncio
import gc
import math
import os
import ssl
import time
from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.load.connection import ANSWERED, NONE, RESET, TIMEOUT, Connection, make_loop
from bench.load.target import Target

UNFINISHED = -1
_AT_ONCE = 64  # requests that are sent before the answers that have come are read
_WATCH_S = 0.01
_PAUSE_S = 0.01  # of a closed loop before it opens a connection again


@dataclass(frozen=True)
class Plan:
    """One stage of load: of an open loop (`rate`) or of a closed one (`connections`)."""

    rate: float | None = None  # requests/s
    connections: int | None = None
    seconds: float = 10.0
    warm_up_s: float = 1.0  # before the seconds that count
    timeout_s: float = 10.0  # from the moment when a request is really sent; one that waits longer to be sent never is
    most_connections: int = 512  # of an open loop; requests that find all of them busy wait, and their time runs


@dataclass
class Samples:
    """Raw samples; entry i of the arrays is request i. Times are in seconds from the start, warm-up included."""

    planned: array[float] = field(default_factory=lambda: array("d"))
    late: array[float] = field(default_factory=lambda: array("d"))  # by how much this program was behind its plan
    woke_late: array[float] = field(
        default_factory=lambda: array("d")
    )  # of wake-ups every 10 ms: its delay in a closed loop
    ended: array[float] = field(default_factory=lambda: array("d"))
    outcome: array[int] = field(default_factory=lambda: array("h"))  # place in `outcomes`, or `UNFINISHED`
    outcomes: list[str] = field(default_factory=lambda: [ANSWERED])
    waited: int = 0  # requests of an open loop for which all connections were busy
    opened: int = 0  # connections
    wall_s: float = 0.0
    cpu_s: float = 0.0  # of this process, in `wall_s`


def measure(target: Target, plan: Plan, progress: Callable[[str], None] = lambda said: None) -> tuple[Samples, bool]:
    """Run a stage. Return its samples, and whether it ran to its end: after Ctrl-C it did not.

    :param progress: called about once a second with a line of what is going on.
    """
    driver = Driver(target, plan, progress)
    gc.collect()
    gc.disable()  # its pauses would be taken for the server's
    started, cpu = time.monotonic(), time.process_time()
    try:
        with asyncio.Runner(loop_factory=make_loop) as runner:
            runner.run(driver.run())
        complete = True
    except KeyboardInterrupt:
        complete = False
    finally:
        gc.enable()
    driver.samples.wall_s, driver.samples.cpu_s = time.monotonic() - started, time.process_time() - cpu
    return driver.samples, complete


class Driver:
    """One stage, in one event loop."""

    def __init__(self, target: Target, plan: Plan, progress: Callable[[str], None]) -> None:
        self.samples = Samples()
        self._target, self._plan, self._progress = target, plan, progress
        self._places = {ANSWERED: 0}  # of the outcomes
        self._idle: deque[Connection] = (
            deque()
        )  # the one that has rested longest is used first, so all workers have work
        self._busy: dict[Connection, None] = {}  # in the order of sending
        self._backlog: deque[int] = deque()
        self._opening: set[asyncio.Task[None]] = set()
        self._open = 0  # connections, those being opened included
        self._under_way = 0  # requests without an outcome
        self._due = 0  # requests of the open loop that have been due
        self._total = math.ceil(
            (plan.rate or 0) * (plan.warm_up_s + plan.seconds) - 1e-9
        )  # all that are due before the end
        self._sending = True

    async def run(self) -> None:
        """Run the stage to its end."""
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._start = self._loop.time()
        self._end = self._plan.warm_up_s + self._plan.seconds
        watch = self._loop.create_task(self._watch())
        try:
            if self._plan.rate is not None:
                self._tick()
            else:
                for _ in range(self._plan.connections or 1):
                    self._next()
            await self._over
        finally:
            watch.cancel()
            for task in self._opening:
                task.cancel()
            for connection in [*self._idle, *self._busy]:
                connection.number = NONE  # what is cut off here is no fault of the server
                connection.end()

    def _now(self) -> float:
        return self._loop.time() - self._start

    def _tick(self) -> None:
        """Send what is due in the open loop, and come back when the next request is."""
        rate, now = self._plan.rate or 1.0, self._now()
        for _ in range(_AT_ONCE):
            if self._due == self._total:
                self._sending = False
                self._check_over()
                return
            planned = self._due / rate
            if planned > now:
                self._loop.call_at(self._start + planned, self._tick)
                return
            self._due += 1
            self._dispatch(planned, now)
        self._loop.call_soon(self._tick)

    def _next(self) -> None:
        """Send the next request of a connection of the closed loop."""
        now = self._now()
        if now < self._end:
            self._dispatch(now, now)
        else:
            self._sending = False
            self._check_over()

    def _dispatch(self, planned: float, now: float) -> None:
        samples, number = self.samples, len(self.samples.planned)
        samples.planned.append(planned)
        samples.late.append(now - planned)
        samples.ended.append(0.0)
        samples.outcome.append(UNFINISHED)
        self._under_way += 1
        if now - planned > self._plan.timeout_s:
            self._record(number, TIMEOUT)
        elif not self._give(number, now):
            samples.waited += 1
            self._backlog.append(number)

    def _give(self, number: int, now: float) -> bool:
        """Give a request to an idle or a new connection; False if there can be no more of them."""
        while self._idle:
            connection = self._idle.popleft()
            if connection.usable:
                self._send(connection, number, now)
                return True
            self._open -= 1
        if self._open >= (self._plan.connections or self._plan.most_connections):
            return False
        self._open += 1
        task = self._loop.create_task(self._connect(number))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        return True

    async def _connect(self, number: int) -> None:
        target = self._target
        try:
            async with asyncio.timeout(self._plan.timeout_s):
                _, connection = await self._loop.create_connection(
                    lambda: Connection(self._finished),
                    *target.address,
                    ssl=target.tls,
                    server_hostname=target.host if target.tls else None,
                )
        except OSError as error:  # a TimeoutError is one
            self._open -= 1
            self._record(number, _why(error))
            self._go_on(None)
            return
        self.samples.opened += 1
        self._send(connection, number, self._now())

    def _send(self, connection: Connection, number: int, now: float) -> None:
        self._busy[connection] = None
        connection.send(number, self._target.requests[number % len(self._target.requests)], now)

    def _finished(self, connection: Connection, number: int, outcome: str) -> None:
        self._busy.pop(connection, None)
        self._record(number, outcome)
        if connection.usable:
            self._go_on(connection)
        else:
            self._open -= 1
            self._go_on(None)

    def _record(self, number: int, outcome: str) -> None:
        place = self._places.setdefault(outcome, len(self._places))
        if place == len(self.samples.outcomes):
            self.samples.outcomes.append(outcome)
        self.samples.ended[number] = self._now()
        self.samples.outcome[number] = place
        self._under_way -= 1

    def _go_on(self, connection: Connection | None) -> None:
        """What comes after a request, with its connection if that takes more."""
        if self._over.done():
            return
        if connection is not None:
            self._idle.append(connection)
        if self._backlog:
            number = self._backlog.popleft()
            if not self._give(number, self._now()):
                self._backlog.appendleft(number)
        elif self._plan.rate is not None:
            self._check_over()
        elif connection is not None:
            self._next()
        else:
            self._loop.call_later(_PAUSE_S, self._next)

    def _check_over(self) -> None:
        if not self._sending and not self._under_way and not self._over.done():
            self._over.set_result(None)

    async def _watch(self) -> None:
        """End requests that take too long, and say how it goes."""
        said = 0.0
        while True:
            due = self._now() + _WATCH_S
            await asyncio.sleep(_WATCH_S)
            now = self._now()
            self.samples.woke_late.append(now - due)
            for connection in list(self._busy):
                if now - connection.sent < self._plan.timeout_s:
                    break
                connection.end(TIMEOUT)
            while self._backlog and now - self.samples.planned[self._backlog[0]] > self._plan.timeout_s:
                self._record(self._backlog.popleft(), TIMEOUT)
            self._check_over()
            if now - said >= 1:
                said = now
                done = len(self.samples.planned) - self._under_way
                self._progress(f"{min(now, self._end):.0f} of {self._end:.0f} s, {done:,} requests ended")


def _why(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return TIMEOUT
    if isinstance(error, ConnectionResetError):
        return RESET
    if isinstance(error, ssl.SSLError):
        return "TLS"
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    return f"connect: {os.strerror(error.errno) if error.errno else error}"
