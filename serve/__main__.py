"""`python -m serve`: starts `bentoml serve` with a bundle, and with options in place of environment variables."""

from __future__ import annotations

import errno
import os
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer

from compress.console import run_cli
from compress.runtime.errors import UserError
from export.commands import Device

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
SERVICE = "serve.service:Classifier"


@app.command()
def run(
    bundle: Annotated[
        Path | None, typer.Argument(help="directory of a bundle, or artifacts/NAME; default: the newest in artifacts/")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="where it listens")] = 3000,
    host: Annotated[
        str | None, typer.Option(help="address of the network card; default: all of them. 127.0.0.1: this machine only")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="such as int8, fp32 or tensorrt; default: the bundle's")] = None,
    device: Annotated[Device | None, typer.Option(help="where the model runs; default: cpu")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="threads of a worker; default: 1")] = None,
    cascade: Annotated[
        bool | None,
        typer.Option("--cascade/--no-cascade", help="whether the teacher answers unsure texts; default: the bundle's"),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="number of processes that answer; default: 1")] = None,
) -> None:
    """Answer over HTTP with a bundle: POST /classify. /docs shows how to ask.

    Options win over the environment variables POCKETBERT_…, which docs/serve.md lists. Ctrl-C stops it.
    """
    from export.bundle import Bundle, find_bundle
    from serve.settings import Settings

    options = {"precision": precision, "device": device, "threads": threads, "workers": workers, "cascade": cascade}
    given = {f"POCKETBERT_{name.upper()}": str(value) for name, value in options.items() if value is not None}
    os.environ.update(given)
    if bundle is not None:
        os.environ.pop("POCKETBERT_WATCH", None)
    settings = Settings.from_environment()
    _make_bentoml_home()
    directory = find_bundle(bundle or settings.bundle_directory()).absolute()
    Bundle(directory).model(settings.precision)  # a mistake is said before BentoML starts, which takes seconds
    os.environ["POCKETBERT_BUNDLE"] = str(directory)  # what is watched goes before it
    _check_port(host or "0.0.0.0", port)
    command = [sys.executable, "-m", "bentoml", "serve", SERVICE, "--port", str(port)]
    os.execv(sys.executable, [*command, *([] if host is None else ["--host", host])])


def _make_bentoml_home() -> None:
    """Make BentoML's directory. BentoML makes it when it is imported, and ends in a traceback where it cannot.

    :raises UserError: it cannot be made or written.
    """
    home = Path(os.environ.get("BENTOML_HOME") or os.path.expanduser("~/bentoml"))
    if home.parts[0] == "~":
        raise UserError("this user has no home directory for BentoML; set BENTOML_HOME to a directory that can be made")
    try:
        home.mkdir(parents=True, exist_ok=True)
        if not os.access(home, os.W_OK):
            raise PermissionError(13, os.strerror(13))
    except OSError as error:
        raise UserError(
            f"{home}: BentoML cannot write there ({error.strerror}); set BENTOML_HOME to a directory that can be made"
        ) from None


def _check_port(host: str, port: int) -> None:
    """See that a server can listen there. BentoML ends in a traceback where it cannot.

    :raises UserError: another server listens there, the port is only for root, or this machine has no such address.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that have ended do not count
            probe.bind(address)
    except OSError as error:
        option = "--port" if error.errno in (errno.EADDRINUSE, errno.EACCES) else "--host"
        raise UserError(
            f"{host}:{port}: cannot listen there ({error.strerror}); choose another with {option}"
        ) from None


if __name__ == "__main__":
    run_cli(app)
