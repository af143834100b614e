"""The command `pocketbert`. It lists its commands at once, and imports a command's module only when that command runs."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from compress import __version__
from compress.console import run_cli

MAKE, USE, MEASURE, LOOK = "Make a classifier", "Use it", "Measure it", "Help yourself"


@dataclass(frozen=True)
class Listed:
    """A command in the list, and where it is."""

    module: str  # its Typer application is called `app`
    name: str  # of the command there
    panel: str
    help: str  # one line: importing the module for it would take seconds


COMMANDS = {
    "init": Listed("pocketbert.commands", "init", MAKE, "Look at a table of labelled texts and write a recipe for it."),
    "compress": Listed("compress.__main__", "run", MAKE, "Train the BERT on your texts, and a small student from it."),
    "plan": Listed("compress.__main__", "plan", MAKE, "What `compress` would do, and a forecast of its minutes."),
    "export": Listed("export.__main__", "run", MAKE, "Turn the student into a checked INT8 bundle."),
    "recipe": Listed("compress.__main__", "recipe", MAKE, "Check a recipe and print it with all defaults."),
    "augment": Listed("compress.__main__", "augment", MAKE, "Make the augmented texts of a recipe and print some."),
    "predict": Listed("pocketbert.commands", "predict", USE, "Classify texts with a bundle, here and now."),
    "serve": Listed("serve.__main__", "run", USE, "Answer over HTTP with a bundle."),
    "pack": Listed("export.commands", "pack", USE, "A bundle with only what one server needs, for an image."),
    "rebuild": Listed(
        "export.commands", "rebuild", USE, "The TensorRT engines of a bundle, for another GPU or version."
    ),
    "bench": Listed("bench.__main__", "compare", MEASURE, "Latency and accuracy of BERT, teacher, student and rivals."),
    "diff": Listed("bench.__main__", "diff", MEASURE, "Two reports of bench: what is better or worse."),
    "report": Listed("bench.__main__", "report", MEASURE, "A report of bench as a page with plots to explore."),
    "load": Listed(
        "bench.__main__", "http", MEASURE, "Load on a server: throughput, latency, errors; pocketbert's or another."
    ),
    "front": Listed("bench.__main__", "front", MEASURE, "Students of several families: accuracy against latency."),
    "cascade": Listed("bench.__main__", "cascade", MEASURE, "Student and teacher together: accuracy against time."),
    "table": Listed("bench.__main__", "table", MEASURE, "A table of methods, data sets and seeds."),
    "inspect": Listed("export.commands", "inspect", LOOK, "What is in a bundle: sizes, accuracies, operators."),
    "verify": Listed(
        "export.commands", "verify", LOOK, "Is a bundle whole, and does it answer here as it did at export?"
    ),
    "doctor": Listed("pocketbert.commands", "doctor", LOOK, "What works here, what is missing, how to get it."),
}


class LazyGroup(TyperGroup):
    """The list of commands; the command itself is imported when it is called."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name, listed in COMMANDS.items():
            self.add_command(TyperCommand(name, callback=None, help=listed.help, rich_help_panel=listed.panel))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the first argument names, and the other arguments.

        Typer calls this to run a command and to complete its arguments, but not to list the commands.
        """
        name, _, rest = super().resolve_command(ctx, args)
        return name, load_command(name) if name else None, rest


def load_command(name: str) -> Any:
    """Import a command of `COMMANDS`."""
    listed = COMMANDS[name]
    found = get_command(import_module(listed.module).app)
    # The application of an only command is that command.
    return found.commands[listed.name] if isinstance(found, TyperGroup) else found


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with: pocketbert init DATA.csv. Every command has --help; docs/ has the rest.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pocketbert {__version__}")
        raise typer.Exit


@app.callback()
def pocketbert(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Turn a BERT text classifier into a small one that answers in a millisecond on a CPU core."""


def main() -> None:
    """Run the command line. Exit status: 2 after a mistake of the user, 130 after Ctrl-C."""
    run_cli(app)
