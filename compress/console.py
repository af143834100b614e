"""What every command line here shares: the console and the way an error ends a command."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import typer
from rich.console import Console

from compress import processes
from compress.runtime.errors import UserError

console = Console(stderr=True, highlight=False, soft_wrap=True, quiet=not processes.is_first())


def run_cli(app: typer.Typer) -> NoReturn:
    """Run a typer application; a `UserError` becomes one line on stderr and exit status 2, Ctrl-C exit status 130."""
    try:
        app()
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop, SystemExit) and stop.code != 130:  # typer turns Ctrl-C into a silent exit 130
            raise
        print("interrupted: run the same command again to carry on", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        os._exit(141)  # the reader of our output has gone; flushing stdout at exit would only raise again
    sys.exit(0)
