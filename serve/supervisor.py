"""What BentoML's supervisor of the workers (circus) gets wrong for a server that must not stop answering.

- It takes commands on a TCP port of the machine, from every user of it. Here they are sockets in a directory of mode 700.
- It sees that a worker has died after up to ten seconds, and in a container it starts no other. Here: after a second, always.
- A worker that cannot start is started again without end. Here the server ends, with one line.
- When it is killed, its workers live on and keep the port. Here they end too (`end_with`).
- SIGHUP stops all workers at once and starts them again. Here it loads the bundle anew (`serve.swap`).
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bentoml.exceptions import BentoMLException
from circus.exc import ConflictError
from prometheus_client.multiprocess import mark_process_dead

from compress.runtime.errors import UserError
from compress.runtime.files import write_text
from serve.bentoml_internals import Arbiter
from serve.bundle_choice import FAILURE, METRICS, serving_file

CHECK_SECONDS = 1.0
EARLY_SECONDS = 10.0  # a worker that ends sooner has not served
MOST_EARLY_ENDS = 3  # in a row
CANNOT_START = 78  # exit status EX_CONFIG of sysexits.h


def harden(state: Path, reload: Callable[[Any], object], start: Callable[[Any], object]) -> None:
    """Change the supervisor that `bentoml serve` is about to make in this process.

    :param state: the server's directory, see `serve.bundle_choice`.
    :param reload: called with the supervisor at SIGHUP.
    :param start: called with the supervisor when it is made.
    """
    make, end = Arbiter.__init__, Arbiter.stop
    deaths = _Deaths(state)

    def init(self: Any, watchers: list[Any], *, endpoint: str, pubsub_endpoint: str, **options: Any) -> None:
        for watcher in watchers:
            watcher.respawn = True
            watcher.hooks.update(before_reap=deaths.before, after_reap=deaths.after)
        options |= {"check_delay": CHECK_SECONDS}
        sockets = {"endpoint": f"ipc://{state}/control.sock", "pubsub_endpoint": f"ipc://{state}/events.sock"}
        make(self, watchers, **sockets, **options)
        start(self)

    def stop(self: Any) -> Any:
        try:
            return end(self)
        except ConflictError:  # it is starting a worker; circus would forget the signal
            self.loop.call_later(0.05, self.stop)
            return None

    Arbiter.__init__, Arbiter.stop = init, stop
    Arbiter.reload = lambda self, *_, **__: reload(self)


def cannot_start(state: Path | None, error: UserError) -> None:
    """End this worker, and with it the server, because it cannot start and no other worker could.

    :raises UserError: this process is not a worker.
    """
    if state is None:
        raise error
    write_text(state / FAILURE, " ".join(str(error).split()))
    os._exit(CANNOT_START)  # an exception would make the worker end with status 0, and be started again


async def end_with(supervisor: int) -> None:
    """End this worker as soon as its supervisor has gone, for example for lack of memory: nobody would replace or stop it.

    :param supervisor: its process ID, the parent of this process when it started.
    """
    while os.getppid() == supervisor:
        await asyncio.sleep(CHECK_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


class _Deaths:
    """Looks at the ends of workers, and ends the server if others would end too."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._age = 0.0
        self._early = 0

    def before(self, *, watcher: Any, process_pid: int, **_: Any) -> bool:
        """A worker has ended, and is still known to the supervisor."""
        self._age = watcher.processes[process_pid].age()
        return True

    def after(self, *, arbiter: Any, process_pid: int, exit_code: int, **_: Any) -> bool:
        """The worker with the age from `before` has ended with this status, or by a signal if it is negative."""
        mark_process_dead(process_pid, str(self._state / METRICS))
        if arbiter._stopping:
            return True
        served = serving_file(self._state, process_pid)
        self._early = 0 if served.exists() and self._age > EARLY_SECONDS else self._early + 1
        served.unlink(missing_ok=True)
        if exit_code == CANNOT_START:
            _end(arbiter, (self._state / FAILURE).read_text(encoding="utf-8"))
        elif self._early >= MOST_EARLY_ENDS:
            how = f"signal {-exit_code}" if exit_code < 0 else f"status {exit_code}"
            _end(arbiter, f"{self._early} workers in a row ended before they served, or soon after ({how})")
        return True


def _end(arbiter: Any, reason: str) -> None:
    """Stop the workers that run and end the server with a status other than zero, as soon as the supervisor can."""
    if arbiter._exception is not None:
        return
    arbiter._exception = BentoMLException(reason)  # raised when the supervisor has stopped; the command line prints it

    arbiter.loop.call_later(0.05, arbiter.stop)
