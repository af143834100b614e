"""The command `python -m bench report` (`pocketbert report`)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compress.console import console
from compress.runtime.errors import UserError


def report_command(
    place: Annotated[Path, typer.Argument(metavar="REPORT", help="A report.json of `compare`, or its directory.")],
    load: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="A load.json of `http`, or its directory: throughput under load too; give several."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the page there instead of report.html beside the report.")
    ] = None,
) -> None:
    """A report as one HTML page with plots to explore. It needs no network; old reports have one too this way."""
    from bench.load.report import read_load
    from bench.page.page import write_page
    from bench.report import PAGE, read_report

    report, loads = read_report(place), [read_load(path) for path in load or []]
    file = out or (place if place.is_dir() else place.parent) / PAGE
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_page(report, file, loads)
    except OSError as error:
        raise UserError(f"{file}: cannot be written ({error.strerror})") from None
    console.print(f"page: {file}", markup=False)
