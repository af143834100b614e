"""The BentoML service that `bentoml serve` starts. `serve.settings` reads its settings."""

from __future__ import annotations

import errno
import gc
import socket
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import bentoml
from bentoml.exceptions import BentoMLException

from compress.runtime.errors import UserError
from serve.app import create_app
from serve.bentoml_internals import read_telemetry_setting_again, serve_address, use_own_metrics_directory
from serve.predictor import Predictor
from serve.settings import Settings


def _as_bentoml_error(error: UserError) -> BentoMLException:
    """The same message in the exception that BentoML's command line prints as one line, with exit status 1."""
    return BentoMLException(" ".join(str(error).split()))


try:
    SETTINGS = Settings.from_environment()
except UserError as error:
    raise _as_bentoml_error(error) from None

read_telemetry_setting_again()
if serve_address() is not None:
    try:
        use_own_metrics_directory()
    except OSError as error:
        raise _as_bentoml_error(
            UserError(f"no directory for metrics ({error.strerror}); set TMPDIR to a directory that can be written")
        ) from None
app = create_app(page=SETTINGS.page)


# A mounted application: a request through `@bentoml.api` takes twice the time.
@bentoml.asgi_app(app)
@bentoml.service(
    workers=SETTINGS.workers,
    # BentoML keeps each request in memory for this many seconds, even if it is answered. A full garbage collection
    # visits all of them.
    traffic={"timeout": 10},
    # A log line for each request takes as much time as a CNN student. /metrics counts requests by path and status.
    logging={"access": {"enabled": False}},
    # Spans took half the time of a request, and without an exporter nobody receives them.
    tracing={"excluded_urls": ["/classify"]},
)
class Classifier:
    """Classifies texts with the bundle of POCKETBERT_BUNDLE, or with the newest bundle."""

    def __init__(self) -> None:
        app.state.predictor = Predictor(SETTINGS)
        # All objects that exist now stay until the end. The garbage collector need not visit them again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        """Check that a worker can start.

        BentoML calls this once before it starts the workers. Without it, a worker that fails would be restarted without end.

        :raises BentoMLException: the bundle cannot be served, or the port is in use; BentoML prints it as one line.
        """
        _check_port()
        try:
            # In a process of its own: the supervisor must keep neither the model nor a GPU context in its memory.
            with ProcessPoolExecutor(max_workers=1) as pool:
                pool.submit(_load, SETTINGS).result()
        except UserError as error:
            raise _as_bentoml_error(error) from None
        except BrokenProcessPool:
            raise BentoMLException(
                "loading the bundle crashed the process; export it again, or check the runtime's install"
            ) from None


def _load(settings: Settings) -> None:
    Predictor(settings)


def _check_port() -> None:
    address = serve_address()
    if address is None:
        return
    host, port = address
    try:
        with socket.create_server(address, family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            cure = "end what listens there or choose another with --port"
            raise BentoMLException(f"port {port} of {host} is in use; {cure}") from None
