"""The parts that all command lines share: the console, common options, and how errors end a command."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from compress import processes
from compress.runtime.errors import UserError

console = Console(stderr=True, highlight=False, soft_wrap=True, quiet=not processes.is_first())


RecipeArgument = Annotated[Path, typer.Argument(help="the task, a TOML file")]
SetOption = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="override a key, e.g. --set compress.epochs=3")
]
ArtifactsOption = Annotated[Path, typer.Option(help="directory for the results; each recipe has a folder there")]
DEFAULT_RECIPE = Path("recipes/sentiment.toml")


def run_cli(app: typer.Typer) -> NoReturn:
    """Run a typer application. A `UserError` prints one line on stderr; the exit status is 2. After Ctrl-C it is 130."""
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
        os._exit(141)  # nobody reads our output any more; flushing stdout at exit would raise the error again
    sys.exit(0)
