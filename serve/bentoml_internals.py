"""The only module that imports from a private part of BentoML (`bentoml._internal`).

Used, and why there is no public way:

- `BentoMLContainer.http.host` and `.port`: the address at which `bentoml serve` listens if its command line has no `--host` or
  no `--port`. BentoML sets them from the service's settings, BENTOML_CONFIG and BENTOML_CONFIG_OPTIONS.
  `bentoml.load_config` and `bentoml.save_config` read and write files only, `bentoml.server_context` exists in the workers
  only, and the hook `bentoml.on_deployment` gets no arguments.
- `BentoMLContainer.prometheus_multiproc_dir`: where the workers of a server count for `/metrics`. By default it is one directory
  for all servers of a user, which each server empties when it starts.
- `do_not_track`: BentoML remembers what BENTOML_DO_NOT_TRACK was before the service was imported.

If BentoML moves one of them, this import fails and so does `bentoml serve`. If BentoML renames the options of its command
line, `serve_address` returns None and a port in use is no longer reported in one line. `tests/serve/test_bentoml_internals.py`
fails in both cases.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile

import click
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.utils.analytics.usage_stats import do_not_track


def serve_address() -> tuple[str, int] | None:
    """The host and port at which `bentoml serve` will listen. None if `bentoml serve` did not start this process."""
    context = click.get_current_context(silent=True)
    if context is None or not {"host", "port"} <= context.params.keys():
        return None
    host = context.params["host"] or BentoMLContainer.http.host.get()
    port = context.params["port"] or BentoMLContainer.http.port.get()
    return host, port


def use_own_metrics_directory() -> None:
    """Let the workers of this server count in a directory of their own, which is removed when the server ends.

    To be called in the process of `bentoml serve`, before it starts the workers.
    """
    directory = tempfile.mkdtemp(prefix="pocketbert-metrics-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    BentoMLContainer.prometheus_multiproc_dir.set(directory)


def read_telemetry_setting_again() -> None:
    """Let BentoML obey `compress.runtime.telemetry`, which is imported after BentoML."""
    do_not_track.cache_clear()
