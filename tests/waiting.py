"""Waiting for what takes as long as it takes, and ports that nobody else is given."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable

PATIENCE = (
    120  # seconds until a test that waits gives up: much more than anything takes, because the machine may be busy
)
_PORTS = range(20_000, 32_000)  # below those that Linux gives to connections, to which a test would lose its port


def until(condition: Callable[[], bool], pause: float = 0.05) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "still not so"
        time.sleep(pause)


def free_port() -> int:
    """A port of this machine at which nobody listens. Two processes that ask at the same time hardly get the same one."""
    while True:
        port = random.SystemRandom().choice(_PORTS)
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue
