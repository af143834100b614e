"""A load test: its stages, the ramp, and the report."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from bench.environment import describe, typed_command
from bench.load.drive import Plan, measure
from bench.load.report import LoadReport, Ramp, Stage
from bench.load.target import Target
from bench.text import significant
from compress.busy import busy_share

CLOSE = 1.05  # the ramp ends when the lowest rate over the limit is at most this factor above the highest within it
STEP = 1.5  # from one rate of the ramp to the next, while nothing is known above
LOWEST = 1.0  # requests/s
Progress = Callable[[str], None]


@dataclass(frozen=True)
class LoadOptions:
    """What to measure."""

    rates: list[float]  # of open loops
    connections: list[int]  # of closed loops
    ramp_ms: float | None  # limit of p99
    body: str
    texts: int
    plan: Plan  # seconds, time-out and so on of each stage


def run_load(target: Target, options: LoadOptions, progress: Progress) -> LoadReport:
    """Measure all stages. After Ctrl-C the report has what was measured by then, and says so.

    :raises UserError: the server does not take the requests.
    :raises KeyboardInterrupt: nothing was measured when it came.
    """
    environment = describe("cpu").model_copy(update={"busy_share": busy_share()})
    target.probe(options.plan.timeout_s)
    stages: list[Stage] = []

    def stage(plan: Plan) -> Stage:
        done = Stage.make(plan, *measure(target, plan, progress))
        if done.requests or done.complete:
            stages.append(done)
        if not done.complete:
            raise KeyboardInterrupt
        return done

    partial, ramp = None, None
    try:
        for connections in options.connections:
            stage(replace(options.plan, connections=connections))
        for rate in options.rates:
            stage(replace(options.plan, rate=rate))
        if options.ramp_ms is not None:
            ramp = find_highest(options.ramp_ms, options.plan, stage)
    except KeyboardInterrupt:
        if not stages:
            raise
        partial = _missing(options, len(stages), stages[-1].complete)
    return LoadReport(
        name=target.url,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=_command(sys.argv[1:]),
        method="POST" if options.body else "GET",
        body=options.body,
        texts=options.texts,
        timeout_s=options.plan.timeout_s,
        most_connections=options.plan.most_connections,
        server_here=target.here,
        environment=environment,
        partial=partial,
        ramp=ramp,
        stages=stages,
    )


def find_highest(limit_ms: float, plan: Plan, stage: Callable[[Plan], Stage]) -> Ramp:
    """The highest rate at which 99 % of all requests are answered within a limit, to 5 %.

    It starts at half the rate of one connection in a closed loop, goes up (or down) in steps of 1.5, and then halves the
    distance (in the logarithm). It ends too where the client is the limit.

    :param stage: measures a stage.
    """
    rate = max(LOWEST, stage(replace(plan, connections=1)).answers_per_s / 2)
    best: float | None = None
    over: float | None = None
    while best is None or over is None or over > best * CLOSE:
        found = stage(replace(plan, rate=rate))
        if found.within(limit_ms):
            best = rate
        elif found.client_limit:
            known = f"{significant(best)} requests/s were within it" if best else "no rate was within it"
            return Ramp(
                limit_ms=limit_ms,
                rate=best,
                said=f"At {significant(rate)} requests/s {found.client_limit}: the server may take more; {known}.",
            )
        else:
            over = rate
            if best is None and rate <= LOWEST:
                return Ramp(
                    limit_ms=limit_ms,
                    rate=None,
                    said=f"No rate has a p99 within {significant(limit_ms)} ms, not even 1/s.",
                )
        rate = _next_rate(rate, best, over)
    return Ramp(
        limit_ms=limit_ms,
        rate=best,
        said=f"Highest rate with a p99 within {significant(limit_ms)} ms: {significant(best)} requests/s "
        f"(not at {significant(over)}).",
    )


def _next_rate(rate: float, best: float | None, over: float | None) -> float:
    if best is None:
        return max(LOWEST, rate / STEP)
    return best * STEP if over is None else (best * over) ** 0.5


def _command(arguments: list[str]) -> str:
    """The command, with the headers' names only: their values are often secrets."""
    shown = []
    for before, argument in zip(["", *arguments], arguments, strict=False):
        is_header = before == "--header" or argument.startswith("--header=")
        shown.append(f"{argument.partition(':')[0]}: …" if is_header else argument)
    return typed_command(shown)


def _missing(options: LoadOptions, stages: int, complete: bool) -> str:
    planned = len(options.rates) + len(options.connections)
    done = stages if complete else stages - 1
    if options.ramp_ms is not None and done >= planned:
        return "the ramp did not end"
    return f"{min(done, planned)} of {planned} stages were finished" + (", no ramp" if options.ramp_ms else "")
