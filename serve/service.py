"""The BentoML service: `bentoml serve` starts it, with the settings of `serve.settings`."""

from __future__ import annotations

import errno
import gc
import socket
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import bentoml
import click
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml.exceptions import BentoMLException

from compress.runtime.errors import UserError
from serve.app import create_app
from serve.predictor import Predictor
from serve.settings import Settings


def _shown(error: UserError) -> BentoMLException:
    """The error as BentoML's command line shows it: one line and exit status 1."""
    return BentoMLException(" ".join(str(error).split()))


try:
    SETTINGS = Settings.from_environment()
except UserError as error:
    raise _shown(error) from None

app = create_app()


# Mounted: `@bentoml.api` costs twice as much per request.
@bentoml.asgi_app(app)
@bentoml.service(
    workers=SETTINGS.workers,
    # BentoML keeps each request in memory for this long, answered or not, and a full garbage collection walks them all.
    traffic={"timeout": 10},
    # /metrics counts the requests by path and status; a log line for each costs as much time as a CNN student.
    logging={"access": {"enabled": False}},
    # Half the time of a request went into spans, which nobody gets unless an exporter is configured.
    tracing={"excluded_urls": ["/classify"]},
)
class Classifier:
    """Classifies texts with the newest bundle, or with the one that POCKETBERT_BUNDLE names."""

    def __init__(self) -> None:
        app.state.predictor = Predictor(SETTINGS)
        # What is loaded by now stays, so no collection need look at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        """Make sure that a worker can start.

        BentoML calls this before it starts the first; a worker that fails it would restart for ever.

        :raises BentoMLException: the bundle cannot be served or the port is taken; BentoML prints it as one line.
        """
        _check_port()
        try:
            # A process of its own: neither the model nor a GPU context should stay in the one that only supervises.
            with ProcessPoolExecutor(max_workers=1) as pool:
                pool.submit(_load, SETTINGS).result()
        except UserError as error:
            raise _shown(error) from None
        except BrokenProcessPool:
            raise BentoMLException(
                "loading the bundle crashed the process; export it again, or check the runtime's install"
            ) from None


def _load(settings: Settings) -> None:
    Predictor(settings)


def _check_port() -> None:
    context = click.get_current_context(silent=True)
    if context is None or not {"host", "port"} <= context.params.keys():
        return  # not started by `bentoml serve`
    host = context.params["host"] or BentoMLContainer.http.host.get()
    port = context.params["port"] or BentoMLContainer.http.port.get()
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            cure = "end what listens there or choose another with --port"
            raise BentoMLException(f"port {port} of {host} is in use; {cure}") from None
