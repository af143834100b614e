"""The only module that imports from a private part of BentoML (`bentoml._internal`).

Used, and why there is no public way:

- `BentoMLContainer.http.host` and `.port`: the address at which `bentoml serve` listens if its command line has no `--host` or
  no `--port`. BentoML sets them from the service's settings, BENTOML_CONFIG and BENTOML_CONFIG_OPTIONS.
  `bentoml.load_config` and `bentoml.save_config` read and write files only, `bentoml.server_context` exists in the workers
  only, and the hook `bentoml.on_deployment` gets no arguments.
- `BentoMLContainer.prometheus_multiproc_dir`: where the workers of a server count for `/metrics`. By default it is one directory
  for all servers of a user, which each server empties when it starts.
- `Arbiter`, the circus supervisor of the workers: see `serve.supervisor`. BentoML has it listen for commands on a TCP port that
  every user of the machine can reach.
- The option `--fd` of its worker: the number of the socket at which all workers listen.
- The argument `build_ctx` of `bentoml build`, which has no hook. It imports the service before it collects files.
- `do_not_track`: BentoML remembers what BENTOML_DO_NOT_TRACK was before the service was imported.
- `Service.to_asgi`, a public method, is replaced: a middleware that is added in the public way lies inside BentoML's own layers.

If BentoML moves one of them, this import fails and so does `bentoml serve`. If BentoML renames the options of its command
line, `serve_address` returns None and a port in use is no longer reported in one line, and `build_directory` returns None, so a
bento has no bundle. `tests/serve/test_bentoml_internals.py`
fails in both cases.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bentoml
import click
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.utils.analytics.usage_stats import do_not_track
from bentoml._internal.utils.circus import Arbiter as Arbiter
from starlette.types import ASGIApp


def serve_address() -> tuple[str, int] | None:
    """The host and port at which `bentoml serve` will listen. None if `bentoml serve` did not start this process."""
    context = click.get_current_context(silent=True)
    if context is None or not {"host", "port"} <= context.params.keys():
        return None
    host = context.params["host"] or BentoMLContainer.http.host.get()
    port = context.params["port"] or BentoMLContainer.http.port.get()
    return host, port


def build_directory() -> Path | None:
    """The directory that `bentoml build` will take the files of a bento from. None if that command did not start this process."""
    context = click.get_current_context(silent=True)
    place = None if context is None else context.params.get("build_ctx")
    return None if place is None else Path(place)


def listening_socket() -> socket.socket | None:
    """In a worker, the socket at which it listens. It is the supervisor's, and open already when the service is imported."""
    context = click.get_current_context(silent=True)
    number = None if context is None else context.params.get("fd")
    return None if number is None else socket.socket(fileno=os.dup(number))


def use_metrics_directory(directory: Path) -> None:
    """Let the workers of this server count in a directory of their own.

    To be called in the process of `bentoml serve`, before it starts the workers.
    """
    BentoMLContainer.prometheus_multiproc_dir.set(str(directory))


def read_telemetry_setting_again() -> None:
    """Let BentoML obey `compress.runtime.telemetry`, which is imported after BentoML."""
    do_not_track.cache_clear()


def put_around(service: bentoml.Service[Any], wrap: Callable[[ASGIApp], ASGIApp]) -> None:
    """Have the workers of a service run `wrap(application)` instead of the application that BentoML makes."""
    kind: Any = type(service)

    class Wrapped(kind):
        __slots__ = ()

        def to_asgi(self, is_main: bool = True) -> ASGIApp:
            return wrap(super().to_asgi(is_main=is_main))

    service.__class__ = Wrapped
