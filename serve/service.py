"""The BentoML service that `bentoml serve` starts. `serve.settings` reads its settings."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
import socket
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from ipaddress import ip_address
from pathlib import Path

import bentoml
from bentoml.exceptions import BentoMLException
from starlette.types import ASGIApp

from compress.runtime.errors import UserError
from export.bundle import Bundle, find_bundle
from export.session import default_precision
from serve import connections, logs, tracing
from serve.admin import Changer, answer_with
from serve.app import create_app
from serve.bentoml_internals import (
    build_directory,
    listening_socket,
    put_around,
    read_telemetry_setting_again,
    serve_address,
    use_metrics_directory,
)
from serve.bundle_choice import METRICS, choose, make_state, read_choice, state_directory, write_choice
from serve.drift import NO_REFERENCE
from serve.guard import Guard
from serve.predictor import Predictor
from serve.settings import PACKED, Settings
from serve.shadow import Shadow
from serve.supervisor import cannot_start, end_with, harden
from serve.swap import Swapper, load, logger


def _as_bentoml_error(error: UserError) -> BentoMLException:
    """The same message in the exception that BentoML's command line prints as one line, with exit status 1."""
    return BentoMLException(" ".join(str(error).split()))


def _pack_for(bento: Path) -> None:
    """Write the bundle of the settings, with only what they need of it, where `bentoml build` takes it from."""
    from export.pack import pack  # a bento does not have it

    bundle = Bundle(find_bundle(SETTINGS.bundle_directory()))
    precision = SETTINGS.precision or default_precision(bundle, SETTINGS.device)
    pack(bundle, bento / PACKED, precisions=[precision] if precision else [], cascade=SETTINGS.cascade)


STATE: Path | None = None  # what the processes of this server share
IS_SUPERVISOR = serve_address() is not None
try:
    SETTINGS = Settings.from_environment()
    read_telemetry_setting_again()
    if (bento := build_directory()) is not None:
        _pack_for(bento)
    if IS_SUPERVISOR:
        STATE = make_state()
        use_metrics_directory(STATE / METRICS)
        swapper = Swapper(SETTINGS, STATE)
        harden(STATE, swapper.start, swapper.watch)
    else:
        STATE = state_directory()
    tracing.is_wanted()  # a mistake is said before the workers start
except UserError as error:
    raise _as_bentoml_error(error) from None
if STATE is not None:
    logs.set_up(SETTINGS.log)
app = create_app(page=SETTINGS.page, max_queue_ms=SETTINGS.max_queue_ms)
if STATE is not None and not IS_SUPERVISOR:
    connections.install(SETTINGS, app.state.admission, listening_socket())
    app.state.supervisor = os.getppid()
    app.state.tracing = tracing.start()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until `Changer.listen`; by default it would end the worker
app.state.server = STATE if SETTINGS.token else None


# A mounted application: a request through `@bentoml.api` takes twice the time.
@bentoml.asgi_app(app)
@bentoml.service(
    workers=SETTINGS.workers,
    # A log line for each request takes as much time as a CNN student. /metrics counts requests by path and status.
    logging={"access": {"enabled": False}},
)
class Classifier:
    """Classifies texts with the bundle of POCKETBERT_BUNDLE, or with the newest bundle."""

    def __init__(self) -> None:
        choice = None if STATE is None else read_choice(STATE)
        try:
            answer_with(app, Predictor(SETTINGS) if choice is None else load(choice.copied))
            if SETTINGS.shadow is not None:
                app.state.shadow = _open_shadow(SETTINGS.shadow, app.state.predictor)
        except UserError as error:
            cannot_start(STATE, error)
        # All objects that exist now stay until the end. The garbage collector need not visit them again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)

    @bentoml.on_startup
    async def listen(self) -> None:
        """Close slow connections, and change the bundle when the server says so."""
        if STATE is not None:
            connections.GuardedProtocol.sweep()
            Changer(app, STATE).listen()
            if not IS_SUPERVISOR:
                app.state.following = asyncio.create_task(end_with(app.state.supervisor))

    @bentoml.on_shutdown
    async def leave(self) -> None:
        """Send the last spans."""
        if app.state.tracing is not None:
            await asyncio.to_thread(app.state.tracing.stop)

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        """Choose the bundle, and check that a worker can start with it.

        BentoML calls this once before it starts the workers. Without it, a worker that fails would be the first to know.

        :raises BentoMLException: the bundle cannot be served, or the port is in use; BentoML prints it as one line.
        """
        _check_address()
        try:
            bundle = SETTINGS.bundle_directory()
            if STATE is not None:
                choice = choose(bundle, STATE)
                write_choice(choice, STATE)
                bundle = choice.copied
            # In a process of its own: the supervisor must keep neither the model nor a GPU context in its memory.
            with ProcessPoolExecutor(max_workers=1) as pool:
                if pool.submit(_load, bundle).result():
                    logger.warning(NO_REFERENCE)
        except UserError as error:
            raise _as_bentoml_error(error) from None
        except BrokenProcessPool:
            raise BentoMLException(
                "loading the bundle crashed the process; export it again, or check the runtime's install"
            ) from None


def _guard(bentoml_app: ASGIApp) -> ASGIApp:
    return Guard(app, bentoml_app, SETTINGS)


put_around(Classifier, _guard)


def _load(directory: Path) -> bool:
    """Load a bundle as a worker does, and say whether it has nothing to compare its answers with."""
    predictor = load(directory)
    if SETTINGS.shadow is not None:
        _open_shadow(SETTINGS.shadow, predictor)
    return predictor.drift is not None and predictor.drift.lacks_reference


def _open_shadow(directory: Path, served: Predictor) -> Shadow:
    candidate = load(find_bundle(directory))
    return Shadow(candidate, served, SETTINGS.shadow_share, app.state.admission, app.state.batches)


def _check_address() -> None:
    address = serve_address()
    if address is None:
        return
    host, port = address
    if not 0 < port < 65536:
        raise BentoMLException(f"port {port}: choose one from 1 to 65535 with --port")
    try:
        ip_address(host)
    except ValueError:
        raise BentoMLException(
            f"host {host}: give the address of a network card with --host, such as 127.0.0.1"
        ) from None
    try:
        with socket.create_server(address, family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            cure = "end what listens there or choose another with --port"
            raise BentoMLException(f"port {port} of {host} is in use; {cure}") from None
        option = "--port" if error.errno == errno.EACCES else "--host"
        fault = error.strerror or error
        raise BentoMLException(f"{host}:{port}: cannot listen there ({fault}); choose another with {option}") from None
