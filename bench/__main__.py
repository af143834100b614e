"""`python -m bench`: how fast and how accurate, against the uncompressed BERT."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench.baseline import BaselineOptions
from bench.compare import CompareOptions, compare
from bench.report import Report, summary
from compress.console import console, run_cli
from compress.recipe import load_recipe

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


class Device(StrEnum):
    """Where the engines run."""

    cpu = "cpu"
    cuda = "cuda"


@app.callback()
def main() -> None:
    """Measure a task's models against the BERT they replace."""


@app.command("compare")
def compare_command(
    recipe: Annotated[Path, typer.Argument(help="The task; its teacher and bundle must have been made.")] = Path(
        "recipes/sentiment.toml"
    ),
    bundle: Annotated[Path | None, typer.Option(help="Measure this bundle instead of artifacts/NAME/bundle.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, e.g. bench.seconds=1.")
    ] = None,
    only: Annotated[
        str, typer.Option(metavar="ENGINE,...", help="Measure only these, e.g. bert-torch,'student-*'.")
    ] = "",
    skip: Annotated[str, typer.Option(metavar="ENGINE,...", help="Leave these out.")] = "",
    device: Annotated[
        Device, typer.Option(help="cuda: PyTorch fp32, bf16 and compiled bf16, and ONNX Runtime, on a GPU.")
    ] = Device.cpu,
    bert_base: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="Hub id or directory of a BERT. Default: BERT-base, random weights, no network."
        ),
    ] = None,
    bert_config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="config.json of a BERT of another size, random weights.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the report there instead of artifacts/NAME/bench.")
    ] = None,
) -> None:
    """Accuracy, size, latency and throughput of BERT-base, teacher and student, side by side.

    Each engine runs in a process of its own with pinned threads; BERT-base takes minutes. Keep the machine idle.
    Writes report.md, report.json (every sample) and a plot.
    """
    task = load_recipe(recipe, settings)
    options = CompareOptions(
        workspace=Path("artifacts") / task.name,
        bundle=bundle,
        out=out,
        only=_names(only),
        skip=_names(skip),
        device=device.value,
        baseline=BaselineOptions(bert_base, bert_config),
    )
    report, directory = compare(task, options)
    _print(report)
    console.print(f"report: {directory / 'report.md'}")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _print(report: Report) -> None:
    """The summary on stdout, so that it can be piped; a warning goes to stderr."""
    header, rows = summary(report)
    table = Table(*header)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    if report.warning:
        console.print(f"[bold yellow]{report.warning}[/]")


if __name__ == "__main__":
    run_cli(app)
