"""The report of a load test: all samples, and what they say."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel

from bench.environment import Environment
from bench.latency import percentile
from bench.load.connection import ANSWERED
from bench.load.drive import UNFINISHED, Plan, Samples
from bench.text import MISSING, markdown_table, read_samples, significant, write_samples
from compress.runtime.files import write_text

QUANTILES = (50.0, 90.0, 99.0, 99.9)
# The client is too slow if it is later (p99) than both of these:
LATE_SHARE = 0.1  # of the p99 of the latencies
LATE_MS = 2.0
CPU_SHARE = 0.9  # one process has one core
TIMING = [
    "Open loop: request i is due at i / rate whether or not earlier answers have come, and its latency counts from then until the whole "
    "answer is there, so waiting for a connection or for a server that stands still is part of it (no coordinated omission). "
    "Closed loop: each connection sends its next request when it has its answer, and the latency counts from the sending.",
    "Percentiles are of the answers with status 2xx that were due after the warm-up, linear between samples; all others are errors. "
    f"One that the samples are too few for is shown as {MISSING}. Nothing is ever sent again.",
    "Answers/s: answers with status 2xx that came in the seconds after the warm-up.",
    "Within a limit of the ramp: 99 % of all requests were answered in that time; errors count as too slow.",
    f"Client: the p99 of how late it sent what was due (in a closed loop: of how late it woke up every 10 ms), and the "
    f"share of one core that it used. Above {CPU_SHARE:.0%}, or more than "
    f"{LATE_MS:.0f} ms and {LATE_SHARE:.0%} of the p99 late, the figures are the client's and not the server's. "
    "At most: the answers/s for which its time per request would fill the core.",
]
Table = tuple[list[str], list[list[str]]]


class Stage(BaseModel):
    """One stage of load, with its raw samples: entry i of the lists is request i, warm-up included."""

    mode: Literal["open", "closed"]
    rate: float | None  # requests/s that were planned
    connections: int | None  # of a closed loop
    seconds: float  # after the warm-up
    warm_up_s: float
    complete: bool = True  # False: Ctrl-C came
    opened: int  # connections
    waited: int  # requests for which all connections were busy
    client_cpu_share: float  # of one core
    client_answers_per_s: float | None  # that the client could send at most, by its CPU time per request
    outcomes: list[str]
    planned_ms: list[float]  # from the start
    late_ms: list[float]  # behind plan, when the client got to it
    woke_late_ms: list[float]  # how late the client was at wake-ups every 10 ms, whatever it sent
    latency_ms: list[float]
    outcome: list[int]  # place in `outcomes`

    @classmethod
    def make(cls, plan: Plan, samples: Samples, complete: bool) -> Stage:
        """Make a stage of raw samples. Requests without an outcome, which only Ctrl-C leaves, are dropped."""
        outcome = np.asarray(samples.outcome)
        planned, late, ended = (np.asarray(times) * 1e3 for times in (samples.planned, samples.late, samples.ended))
        kept = outcome != UNFINISHED
        return cls(
            mode="closed" if plan.rate is None else "open",
            rate=plan.rate,
            connections=plan.connections if plan.rate is None else None,
            seconds=plan.seconds,
            warm_up_s=plan.warm_up_s,
            complete=complete,
            opened=samples.opened,
            waited=samples.waited,
            client_cpu_share=samples.cpu_s / samples.wall_s,
            client_answers_per_s=float(kept.sum()) / samples.cpu_s if samples.cpu_s else None,
            outcomes=samples.outcomes,
            planned_ms=planned[kept].round(3).tolist(),
            late_ms=late[kept].round(3).tolist(),
            woke_late_ms=(np.asarray(samples.woke_late) * 1e3).round(3).tolist(),
            latency_ms=(ended - planned)[kept].round(3).tolist(),
            outcome=outcome[kept].tolist(),
        )

    @property
    def title(self) -> str:
        """What the load was."""
        if self.rate is not None:
            return f"open, {significant(self.rate)} requests/s"
        return f"closed, {self.connections} connection{'s' if self.connections != 1 else ''}"

    @property
    def requests(self) -> int:
        """Requests that were due after the warm-up and have an outcome."""
        return int(self._counted.sum())

    @property
    def answered_ms(self) -> list[float]:
        """The latencies of the requests that were answered with 2xx."""
        right = np.asarray(self.outcome) == self.outcomes.index(ANSWERED)
        return np.asarray(self.latency_ms)[self._counted & right].tolist()

    @property
    def errors(self) -> dict[str, int]:
        """How many requests had which error, the most frequent first."""
        places = np.asarray(self.outcome, dtype=int)[self._counted]
        counts = Counter(self.outcomes[place] for place in places)
        return {kind: n for kind, n in counts.most_common() if kind != ANSWERED}

    @property
    def answers_per_s(self) -> float:
        """Answers with 2xx per second that came after the warm-up, while requests were being sent."""
        right = np.asarray(self.outcome) == self.outcomes.index(ANSWERED)
        came = np.asarray(self.planned_ms) + np.asarray(self.latency_ms)
        first, last = self.warm_up_s * 1e3, (self.warm_up_s + self.seconds) * 1e3
        if not self.complete:
            last = max(float(came.max(initial=0.0)), first + 1.0)
        return float((right & (came >= first) & (came < last)).sum()) / (last - first) * 1e3

    @property
    def late_p99_ms(self) -> float | None:
        """How far this program was behind: its plan in an open loop, its wake-ups in a closed one. None: too few samples."""
        if self.mode == "closed":
            return percentile(self.woke_late_ms, 99)
        return percentile(np.asarray(self.late_ms)[self._counted].tolist(), 99)

    @property
    def client_limit(self) -> str | None:
        """Why the figures are of this program and not of the server; None if they are of the server."""
        late, slow = self.late_p99_ms, self.quantile(99) or 0.0
        most = f"{significant(self.client_answers_per_s)}/s" if self.client_answers_per_s else "more"
        if self.client_cpu_share > CPU_SHARE:
            return f"the client used {self.client_cpu_share:.0%} of a core and cannot do more than about {most}"
        if late is not None and late > max(LATE_MS, LATE_SHARE * slow):
            others = ", since other programs had the CPU" if self.client_cpu_share < CPU_SHARE / 2 else ""
            return f"the client was late, by {significant(late)} ms (p99){others}, and the latencies have that in them"
        return None

    def quantile(self, q: float) -> float | None:
        """A percentile of the answered requests in ms; None: too few of them."""
        return percentile(self.answered_ms, q)

    def within(self, limit_ms: float) -> bool:
        """Whether 99 % of all requests were answered within a time."""
        in_time = sum(ms <= limit_ms for ms in self.answered_ms)
        return self.requests > 0 and in_time >= 0.99 * self.requests

    @property
    def _counted(self) -> np.ndarray:
        return np.asarray(self.planned_ms) >= self.warm_up_s * 1e3


class Ramp(BaseModel):
    """The highest rate within a limit."""

    limit_ms: float  # of p99
    rate: float | None  # requests/s; None: not even the lowest rate was within it
    said: str


class LoadReport(BaseModel):
    """`load.json`."""

    format: int = 1
    name: str  # the URL
    created: str  # ISO 8601, UTC
    command: str
    method: str
    body: str
    texts: int  # how many, which the requests have in turn
    timeout_s: float
    most_connections: int  # of an open loop
    server_here: bool  # the server is on this machine, and shares its CPUs with the client
    environment: Environment
    timing: list[str] = TIMING
    partial: str | None = None  # what is missing, if the measurement was interrupted
    ramp: Ramp | None = None
    stages: list[Stage]

    @property
    def warnings(self) -> list[str]:
        """Why figures cannot be trusted, a line each."""
        lines = []
        if self.environment.busy:
            lines.append(
                f"the machine was busy when this run started ({self.environment.busy_share:.0%} of its CPUs in use by other "
                "work); wait until it is idle and run the command again"
            )
        lines += [f"{stage.title}: {said}" for stage in self.stages if (said := stage.client_limit)]
        lines += [
            f"{stage.title}: no request began after the warm-up, so nothing is known; take longer --seconds"
            for stage in self.stages
            if not stage.requests
        ]
        for stage in self.stages:
            if stage.waited:
                lines.append(
                    f"{stage.title}: {stage.waited:,} requests found all {self.most_connections} connections busy and waited, "
                    "which their latencies include"
                )
        return lines


def summary(report: LoadReport) -> Table:
    """The first table: a row for each stage."""
    header = ["Load", "Answers/s", *(f"p{q:g} ms" for q in QUANTILES), "max ms", "Errors"]
    return header, [
        [
            stage.title + ("" if stage.complete else " (interrupted)"),
            significant(stage.answers_per_s),
            *(significant(stage.quantile(q)) for q in QUANTILES),
            significant(max(stage.answered_ms, default=None)),
            ", ".join(f"{n:,} × {kind}" for kind, n in stage.errors.items()) or "0",
        ]
        for stage in report.stages
    ]


def to_markdown(report: LoadReport) -> str:
    """The report as people read it."""
    parts = [f"# Load on {report.name}"]
    if report.partial:
        parts.append(f"> **Partial.** The measurement was interrupted: {report.partial}.")
    parts += [f"> **Careful.** {line[0].upper()}{line[1:]}." for line in report.warnings]
    if report.ramp:
        parts.append(f"**{report.ramp.said}**")
    parts += [_conditions(report), markdown_table(*summary(report))]
    parts += ["## The client", markdown_table(*_client(report))]
    parts += ["## Histogram", "Answered requests by latency.", markdown_table(*_histogram(report))]
    parts += ["## What the figures include", "\n".join(f"- {line}" for line in report.timing)]
    return "\n\n".join(parts) + "\n"


def read_load(path: Path) -> LoadReport:
    """A `load.json`, or the one in a directory.

    :raises UserError: there is none, or the file is something else.
    """
    return read_samples(path, "load.json", LoadReport, "pocketbert load")


def write_report(report: LoadReport, directory: Path) -> None:
    """Write `load.json`, which holds every raw sample, and `load.md`. No file is ever half written."""
    directory.mkdir(parents=True, exist_ok=True)
    write_samples(directory / "load.json", report.model_dump(mode="json"))
    write_text(directory / "load.md", to_markdown(report))


def _conditions(report: LoadReport) -> str:
    machine = report.environment
    first = report.stages[0]
    where = "on this machine, so it shares the CPUs with the client" if report.server_here else "on another machine"
    lines = [
        f"- `{report.command}`, {report.created}",
        f"- {report.method}, body `{report.body}`, {report.texts} texts in turn"
        if report.body
        else f"- {report.method}",
        f"- {significant(first.seconds)} s each after {significant(first.warm_up_s)} s of warm-up, time-out {significant(report.timeout_s)} s, "
        f"no retries",
        f"- the server is {where}",
        f"- client: {machine.cpu}, {machine.logical_cpus} logical CPUs, {machine.system}, Python {machine.python}, "
        f"pocketbert {machine.pocketbert} ({machine.commit or 'no commit'})",
    ]
    return "\n".join(lines)


def _client(report: LoadReport) -> Table:
    header = ["Load", "Requests", "Connections opened", "Late, p99 ms", "CPU", "Could do at most, answers/s"]
    return header, [
        [
            stage.title,
            f"{stage.requests:,}",
            f"{stage.opened:,}",
            significant(stage.late_p99_ms),
            f"{stage.client_cpu_share:.0%}",
            significant(stage.client_answers_per_s),
        ]
        for stage in report.stages
    ]


def _histogram(report: LoadReport) -> Table:
    """Counts between 1, 2, 5, 10, … ms, from the first to the last that has any."""
    edges = np.array([0.0, *(step * 10.0**power for power in range(-2, 6) for step in (1, 2, 5))])
    counts = np.array([np.histogram(stage.answered_ms, edges)[0] for stage in report.stages])
    filled = np.flatnonzero(counts.sum(axis=0))
    rows = [
        [f"{edges[i]:g} to {edges[i + 1]:g} ms", *(f"{n:,}" for n in counts[:, i])]
        for i in (range(filled[0], filled[-1] + 1) if len(filled) else ())
    ]
    return ["Latency", *(stage.title for stage in report.stages)], rows
