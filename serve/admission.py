"""Admission control: how much work may wait in a worker. What would wait too long is refused at once.

A worker has two lanes: short work runs on the event loop, long work in a thread, so that a short request never waits behind a
batch. A lane is a queue in the order of arrival. Its length is counted in seconds of work, as `serve.timing` forecasts them.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from prometheus_client import Counter

from serve.messages import RefusedError

SLICE_SECONDS = 0.005  # work that is done on the event loop before it looks for new requests
LONGEST_SLICE_SECONDS = 0.05
LEFT_SECONDS = 0.01  # a request that has waited longer is checked: is its client still there?
MEMORY = 0.98  # weight of the past at each request, in the ratio of real to forecast time
LONGEST_COUNTED_SECONDS = 0.25  # of a request, against a moment in which the machine stood still
NOT_RUN = Counter(
    "pocketbert_not_run",
    "Requests that were not run: too much work waited (queue), the client's time was over (deadline), or it left (left).",
    ["reason"],
)


class ClientLeftError(Exception):
    """The client closed the connection while its request waited. Nobody reads an answer."""


@dataclass(eq=False, slots=True)
class Ticket:
    """A request in a lane: its forecast in seconds, and the times (`monotonic`) at which it joined and began to run."""

    seconds: float
    joined: float
    began: float = 0.0
    turn: asyncio.Future[None] | None = None


class Lane:
    """A queue of requests, of which those at its head run.

    Several short requests run before the event loop looks for new ones (`shared`), or one request at a time.

    :param longest: the most seconds of work that may be before a request when it joins. An empty lane takes any request.
    """

    def __init__(self, longest: float, *, shared: bool) -> None:
        self.longest, self.shared = longest, shared
        self._real = self._forecast = 0.01  # seconds of the last requests
        self._ahead = 0.0  # forecast seconds of all that waits or runs
        self._queue: deque[Ticket] = deque()
        self._running = 0
        self._just_ran = False  # a request has run in this turn of the event loop
        self._left = 0.0  # when the last request left

    @property
    def ratio(self) -> float:
        """Real seconds for a forecast second: of the model, and of all else that the worker does for a request."""
        return self._real / self._forecast

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits or runs."""
        return not self._queue and not self._running

    @property
    def wait(self) -> float:
        """How many seconds a request that joins now will wait before it runs."""
        return 0.0 if self.is_idle else self._ahead * self.ratio

    def check(self, deadline: float | None = None) -> None:
        """See whether a request can join.

        :param deadline: the time (`monotonic`) at which the client stops waiting.
        :raises RefusedError: 429, with the seconds after which to try again.
        """
        wait = self.wait
        if wait > self.longest:
            NOT_RUN.labels("queue").inc()
        elif deadline is not None and monotonic() + wait > deadline:
            NOT_RUN.labels("deadline").inc()
        else:
            return
        cure = "the server has more work than it can do in time; send the request again later"
        raise RefusedError(cure, 429, retry_after=max(1, math.ceil(wait)))

    async def enter(
        self, seconds: float, *, deadline: float | None = None, has_left: Callable[[], bool] | None = None
    ) -> Ticket:
        """Join, and wait for the turn. Give the ticket to `leave` when the request has run.

        :param seconds: the forecast of the request's own time.
        :param has_left: says whether the client has gone.
        :raises RefusedError: 429 as `check`; 504: the deadline passed in the queue.
        :raises ClientLeftError: the client left while its request waited.
        """
        self.check(deadline)
        ticket = Ticket(seconds, monotonic())
        self._ahead += seconds
        if self._queue or self._running or self._just_ran:
            # Requests that were read together all join before the second of them runs. So those that are too many are
            # refused before the others run, and not after.
            ticket.turn = asyncio.get_running_loop().create_future()
            self._queue.append(ticket)
            self._go_on()
            try:
                await ticket.turn
            except asyncio.CancelledError:
                self._cancel(ticket)
                raise
        else:
            self._running += 1
        ticket.began = monotonic()
        try:
            if deadline is not None and ticket.began > deadline:
                NOT_RUN.labels("deadline").inc()
                raise RefusedError("the time that the request allows was over before its turn", 504)
            if has_left is not None and ticket.began - ticket.joined > LEFT_SECONDS and has_left():
                NOT_RUN.labels("left").inc()
                raise ClientLeftError
        except BaseException:
            self._remove(ticket)
            raise
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Let the next requests run, and learn from the time that this one took."""
        # In a queue, all that was done since the request before has kept this one waiting: reading, refusing, answering.
        start = ticket.began if ticket.turn is None else max(self._left, ticket.joined)
        self._real = MEMORY * self._real + min(monotonic() - start, LONGEST_COUNTED_SECONDS + 2 * ticket.seconds)
        self._forecast = MEMORY * self._forecast + ticket.seconds
        self._remove(ticket)

    def _remove(self, ticket: Ticket) -> None:
        self._running -= 1
        self._ahead -= ticket.seconds
        self._left = monotonic()
        if not self._queue and not self._running:
            self._ahead = 0.0  # without the rounding errors of many sums
        if not self._just_ran:
            self._just_ran = True
            asyncio.get_running_loop().call_soon(self._next_turn)

    def _cancel(self, ticket: Ticket) -> None:
        if ticket in self._queue:
            self._queue.remove(ticket)
            self._ahead -= ticket.seconds
        else:  # its turn had come already
            self._remove(ticket)

    def _go_on(self) -> None:
        """Have the head of the queue run in the next turn of the event loop, unless something runs."""
        if not self._just_ran and not self._running:
            self._just_ran = True
            asyncio.get_running_loop().call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._just_ran = False
        if self._running:
            return
        # As long as the event loop was busy with other things, so that even a flood of requests that are refused leaves
        # half of the time for work.
        budget = min(max(monotonic() - self._left, SLICE_SECONDS), LONGEST_SLICE_SECONDS)
        while self._queue and (self._running == 0 or (self.shared and budget > 0)):
            ticket = self._queue.popleft()
            assert ticket.turn is not None
            if not ticket.turn.done():
                ticket.turn.set_result(None)
            self._running += 1
            budget -= ticket.seconds * self.ratio


class Admission:
    """The two lanes of a worker."""

    def __init__(self, longest: float) -> None:
        self.loop = Lane(longest, shared=True)
        self.thread = Lane(longest, shared=False)

    def check(self) -> None:
        """Refuse a request before its body is read, if the lane of short ones is full.

        A long request that the other lane would still take is refused too: the work of both is done by one processor.

        :raises RefusedError: 429.
        """
        self.loop.check()
