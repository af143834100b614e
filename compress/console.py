"""The parts that all command lines share: the console, common options, and how errors end a command."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from compress import processes
from compress.runtime.errors import UserError

console = Console(stderr=True, highlight=False, soft_wrap=True, quiet=not processes.is_first())


RecipeArgument = Annotated[Path, typer.Argument(help="the task, a TOML file; `pocketbert init` writes one")]
SetOption = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="override a key, e.g. --set compress.epochs=3")
]
ArtifactsOption = Annotated[Path, typer.Option(help="directory for the results; each recipe has a folder there")]
DEFAULT_RECIPE = Path("recipes/sentiment.toml")
# How libraries that do not raise an OSError say that they could not write: safetensors, and the zip writer of torch.
FULL_DISK = ("No space left on device", "os error 28", "PytorchStreamWriter failed", "unexpected pos ")
NOT_ACCESSIBLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR)
OWN_PACKAGES = ("bench", "compress", "export", "pocketbert", "serve")


class DefaultGroup(TyperGroup):
    """Commands of which `run` is meant if none is named: `python -m export RECIPE.toml` is `python -m export run RECIPE.toml`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `run` before arguments that begin with no command."""
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["run", *args]
        return super().parse_args(ctx, args)


def has_live_bars() -> bool:
    """Whether a progress bar can be drawn again and again: on a terminal, and in a notebook where rich has ipywidgets for it."""
    return console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None)


def run_cli(app: typer.Typer) -> NoReturn:
    """Run a typer application. A `UserError` or a missing package prints one line on stderr; the exit status is 2. After Ctrl-C it is 130.

    So does a fault of the machine, such as a full disk; whatever else goes wrong is a mistake in the program and shows where.
    Of several processes that fail together, one says why.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr does: an ASCII terminal shows an arrow as \u2192
    try:
        try:
            app()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # here, since a full disk at the exit of Python would be no error
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop, SystemExit) and stop.code != 130:  # typer turns Ctrl-C into a silent exit 130
            raise
        _tell("interrupted: run the same command again to carry on")
        sys.exit(130)
    except BrokenPipeError:
        os._exit(141)  # nobody reads our output any more; flushing stdout at exit would raise the error again
    except Exception as error:
        if (reason := _reason(error)) is None:
            if processes.is_first_to_fail():
                raise
            sys.exit(1)  # another process shows its stack, or has said why
        if not (isinstance(error, processes.LostProcessError) and processes.is_launched_here()):
            _tell(f"error: {' '.join(reason.split())}")
        if not isinstance(error, UserError) and sys.stdout is sys.__stdout__ and sys.stdout is not None:
            os.dup2(
                os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
            )  # what could not be written is not tried again
        sys.exit(2)
    sys.exit(0)


def _reason(error: Exception) -> str | None:
    """What ended a command, for its user. None if it is a mistake in the program."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").split(".")[0]
        known = package in OWN_PACKAGES
        return (
            None if known else f"the Python package {package} is not installed; `pocketbert doctor` says what needs it"
        )
    return machine_fault(error)


def _tell(line: str) -> None:
    """Print why a command ends, unless another process of the same run has said why already."""
    if processes.is_first_to_fail():
        print(line, file=sys.stderr, flush=True)


def machine_fault(error: BaseException | None) -> str | None:
    """One line about the machine if an exception comes from it: a full disk, too many open files, a place that cannot be read or
    written. Else None.

    :param error: also the exceptions that it was raised from or in the handling of are looked at.
    """
    while error is not None:
        if any(sign in str(error) for sign in FULL_DISK) or getattr(error, "errno", None) in (
            errno.ENOSPC,
            errno.EDQUOT,
        ):
            place = getattr(error, "filename", None)
            return f"{f'{place}: ' if place else ''}the disk is full; make room and run the same command again, which carries on"
        if isinstance(error, OSError) and error.errno == errno.EMFILE:
            return f"{error.filename or 'a file'}: {error.strerror}; allow this process more of them (ulimit -n)"
        if isinstance(error, OSError) and error.errno in NOT_ACCESSIBLE:
            return f"{error.filename or 'a file'}: {error.strerror}; choose a place that this user can read and write"
        if isinstance(error, FileNotFoundError) and "No usable temporary directory" in str(error):
            return "no directory for temporary files can be written; set TMPDIR to one"
        error = error.__cause__ or error.__context__
    return None


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout, so that it can be piped. All messages go to stderr."""
    from rich.table import Table

    table = Table(*header)
    for column in table.columns[1:]:
        column.justify, column.overflow = "right", "fold"
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)
