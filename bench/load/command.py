"""The command `python -m bench http` (`pocketbert load`)."""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import Annotated

import typer

from bench.load.target import BODY, TEXTS, Target, read_texts
from compress.console import console, print_table
from compress.runtime.errors import UserError


def http_command(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="Such as http://localhost:3000; without a path: /classify.")
    ],
    rate: Annotated[
        list[float] | None,
        typer.Option(
            "--rate", metavar="N", help="Open loop: so many requests a second, whatever the answers; give several."
        ),
    ] = None,
    connections: Annotated[
        list[int] | None,
        typer.Option(
            "--connections",
            metavar="N",
            help="Closed loop: so many connections, each waits for its answer; give several.",
        ),
    ] = None,
    ramp: Annotated[
        float | None,
        typer.Option(
            "--ramp", metavar="MS", help="Look for the highest rate whose p99 is within so many milliseconds."
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(help="Length of each stage.")] = 10.0,
    warm_up: Annotated[float, typer.Option(min=0, help="Seconds before them that do not count.")] = 1.0,
    timeout: Annotated[float, typer.Option(help="Seconds after which a request is given up.")] = 10.0,
    body: Annotated[
        str, typer.Option(help="Body of a request; {text} and {text_b} are replaced. '': GET without a body.")
    ] = BODY,
    texts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A text a line, a tab between the two of a pair. Default: eight short English ones."
        ),
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option("--header", metavar="'NAME: VALUE'", help="Send this too; give several.")
    ] = None,
    most_connections: Annotated[
        int,
        typer.Option(
            "--max-connections", min=1, help="Of an open loop; beyond them requests wait, and their time runs."
        ),
    ] = 512,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Write load.md and load.json there.")] = Path(
        "artifacts/load"
    ),
) -> None:
    """Load on a server: throughput, latency percentiles and errors, of pocketbert's or any other.

    At least one of --rate, --connections and --ramp. Errors are counted by kind, and nothing is sent again. The report says if the
    client, not the server, was too slow. After Ctrl-C it has what was measured by then.
    """
    rates, loops = rate or [], connections or []
    if not (rates or loops or ramp):
        raise UserError("say how much load: --rate 100, --connections 8 or --ramp 20")
    for option, numbers in (("--rate", rates), ("--connections", loops), ("--ramp", [ramp or 1.0])):
        if any(not 0 < number < inf for number in numbers):
            raise UserError(f"{option}: must be above 0, and finite")
    if not (0 < seconds < inf and 0 < timeout < inf and warm_up < inf):
        raise UserError("--seconds, --timeout: must be above 0, and finite, as --warm-up must")
    from bench.load.drive import Plan
    from bench.load.report import summary, write_report
    from bench.load.run import LoadOptions, run_load

    asked = read_texts(texts) if texts else list(TEXTS)
    target = Target.make(url, body, asked, header or [])
    plan = Plan(seconds=seconds, warm_up_s=warm_up, timeout_s=timeout, most_connections=most_connections)
    options = LoadOptions(rates, loops, ramp, body, len(asked), plan)
    with console.status("") as status:
        report = run_load(target, options, lambda said: status.update(said))
    write_report(report, out)
    print_table(*summary(report))
    for line in report.warnings:
        console.print(line, style="bold yellow", markup=False)
    if report.ramp:
        console.print(report.ramp.said, markup=False)
    console.print(f"report: {out / 'load.md'}", markup=False)
    if report.partial:
        console.print(f"interrupted: the report is partial: {report.partial}", style="bold yellow", markup=False)
        raise typer.Exit(130)
