"""The only module that imports from a private part of BentoML (`bentoml._internal`).

Used: `BentoMLContainer.http.host` and `.port`. They give the address at which `bentoml serve` listens if its command line
has no `--host` or no `--port`. BentoML sets them from the service's settings, BENTOML_CONFIG and BENTOML_CONFIG_OPTIONS.

No public API gives them. `bentoml.load_config` and `bentoml.save_config` read and write files only, `bentoml.server_context`
exists in the workers only, and the hook `bentoml.on_deployment` gets no arguments.

If BentoML moves the container, this import fails and so does `bentoml serve`. If BentoML renames the options of its command
line, `serve_address` returns None and a port in use is no longer reported in one line. `tests/serve/test_bentoml_internals.py`
fails in both cases.
"""

from __future__ import annotations

import click
from bentoml._internal.configuration.containers import BentoMLContainer


def serve_address() -> tuple[str, int] | None:
    """The host and port at which `bentoml serve` will listen. None if `bentoml serve` did not start this process."""
    context = click.get_current_context(silent=True)
    if context is None or not {"host", "port"} <= context.params.keys():
        return None
    host = context.params["host"] or BentoMLContainer.http.host.get()
    port = context.params["port"] or BentoMLContainer.http.port.get()
    return host, port
