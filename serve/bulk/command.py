"""A bulk job from a command line: its progress is a bar on a terminal, and a line every minute elsewhere."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from compress.console import console, has_live_bars
from serve.bulk.options import BulkOptions

if TYPE_CHECKING:
    from rich.progress import Progress

    from serve.bulk.job import State

LOG_SECONDS = 60.0
SHOWN_LABELS = 10


def run_shown(bundle: Path | None, options: BulkOptions) -> None:
    """Run a job, and show how far it is and what it did."""
    from serve.bulk.job import run_bulk

    with _Progress(options.source) as progress:
        state = run_bulk(bundle, options, progress.show)
    workers = f"{state.workers} worker{'s' if state.workers > 1 else ''}"
    carried = f", {state.carried:,} of them by an earlier run" if state.carried else ""
    console.print(
        f"{state.written:,} rows answered{carried}: {options.target} ({state.rate:,.0f} rows/s, {workers})",
        markup=False,
    )
    if state.written:
        shares = [f"{label} {count / state.written:.1%}" for label, count in state.labels.most_common(SHOWN_LABELS)]
        console.print(f"labels: {', '.join(shares)}{', …' if len(state.labels) > SHOWN_LABELS else ''}", markup=False)
    if state.models:
        console.print(f"answered by: {', '.join(f'{m} {n:,}' for m, n in state.models.most_common())}", markup=False)
    if state.bad:
        console.print(
            f"bad rows that are not in it: {state.bad:,}; see {state.bad_place}", style="yellow", markup=False
        )


class _Progress:
    """Shows a job while it runs."""

    def __init__(self, name: str) -> None:
        self._name = name.rstrip("/").split("/")[-1]
        self._bar: Progress | None = None
        self._begun = False
        self._logged = time.monotonic()

    def __enter__(self) -> _Progress:
        if has_live_bars():
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[info]}", markup=False),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=console, transient=True)
            self._task = self._bar.add_task(self._name, total=None, info="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def show(self, state: State) -> None:
        """Show the state."""
        if not self._begun:
            self._begun = True
            for doubt in state.doubts:
                console.print(f"warning: {doubt}", style="yellow", markup=False)
            if state.carried:
                console.print(f"carrying on after {state.carried:,} rows", markup=False)
        info = f"{state.rows:,} rows, {state.rate:,.0f} rows/s" + (f", {state.bad:,} bad" if state.bad else "")
        if self._bar:
            share = None if state.share is None else round(state.share, 4)
            self._bar.update(self._task, total=share and 1.0, completed=share or 0.0, info=info)
        elif time.monotonic() - self._logged > LOG_SECONDS:
            self._logged = time.monotonic()
            percent = "" if state.share is None else f", {state.share:.0%} read"
            console.print(f"{self._name}: {info}{percent}", markup=False)
