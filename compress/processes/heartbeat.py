"""Notices a process that answers no more though its connections stand: its machine has lost power or its network, or it was stopped.

Each process counts up a number in the run's store every few seconds. The first process watches all others, and these watch the first.
"""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress
from threading import Event, Thread
from typing import TYPE_CHECKING, NoReturn

from compress import processes

if TYPE_CHECKING:
    from torch.distributed import Store

BEAT_SECONDS = 5.0
LOST_BEATS = 12  # beats of this process in which another one has made none
ENDED = "ended"


class Heartbeat(Thread):
    """The beats of this process, and its watch over others.

    Time is counted in own beats: a whole run that was stopped and goes on, or a laptop that slept, has lost nobody.

    :param store: see `processes.open_store`.
    """

    def __init__(self, store: Store, rank: int, size: int) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self.store, self.rank, self.size = store, rank, size
        self.watched = dict.fromkeys(range(1, size) if rank == 0 else (0,), "")  # what each has said last
        self.missed = dict.fromkeys(self.watched, 0)
        self.ended = Event()
        self._beat(0)  # before any work: a process that is lost at once has said where it ran

    def run(self) -> None:
        """Beat and watch until `stop` is called."""
        from torch.distributed import DistNetworkError

        beats = silent = 0
        while not self.ended.wait(BEAT_SECONDS):
            beats += 1
            try:
                self._beat(beats)
                lost = self._look()
                failed = self.store.check([processes.FAILED])
                silent = 0
            except RuntimeError as error:  # of the store: its connection is broken, or it is late
                lost, failed, silent = None, False, silent + 1
                is_gone = isinstance(error, DistNetworkError) or silent >= LOST_BEATS
                if is_gone and not self.ended.wait(BEAT_SECONDS):  # all processes have not just come to their end
                    self._leave("what started the processes of this run is gone", tells=self.rank == 0)
            if failed and not self.ended.wait(BEAT_SECONDS):  # a broken connection ends most of them before
                os._exit(1)
            if lost is not None:
                host = self.watched[lost].partition(" ")[2]
                self._leave(
                    f"process {lost} of {self.size}{f' ({host})' if host else ''} answers no more",
                    tells=processes.is_first_to_fail(),
                )

    def stop(self) -> None:
        """Stop beating, since this process ends as it should."""
        self.ended.set()
        self.join(timeout=2 * processes.STORE_TIMEOUT.total_seconds())
        with suppress(RuntimeError):  # the store is gone, and nobody looks any more
            self.store.set(str(self.rank), ENDED)

    def _beat(self, beats: int) -> None:
        self.store.set(str(self.rank), f"{beats} {socket.gethostname()}")

    def _look(self) -> int | None:
        """The number of a process that has said nothing new for too long."""
        for other, last in self.watched.items():
            said = self.store.get(str(other)).decode() if self.store.check([str(other)]) else ""
            self.missed[other] = self.missed[other] + 1 if said == last != ENDED else 0
            self.watched[other] = said
            if self.missed[other] >= LOST_BEATS:
                return other
        return None

    def _leave(self, reason: str, *, tells: bool) -> NoReturn:
        """End this process: its main thread waits for a process that is lost, perhaps for ever."""
        if tells:
            print(f"error: {reason}; run the same command again, which carries on", file=sys.stderr, flush=True)
        os._exit(1)
