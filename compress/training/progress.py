"""Progress of a training or of another long work: a live bar on a terminal or in a notebook, elsewhere a line every few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from compress.console import console, has_live_bars

LOG_SECONDS = 15.0
T = TypeVar("T")


class TrainingProgress:
    """Shows the smoothed loss, the last dev metrics and the time left."""

    def __init__(self, name: str, steps: int) -> None:
        self.name, self.steps = name, steps
        self.loss: float | None = None
        self.metrics = ""
        self._bar: Progress | None = None

    def __enter__(self) -> TrainingProgress:
        self._started = self._logged = time.monotonic()
        self._first_step: int | None = None
        if has_live_bars():
            columns = [
                TextColumn("  {task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[info]}"),
                TimeRemainingColumn(),
            ]
            self._bar = Progress(*columns, console=console, transient=True)
            self._task = self._bar.add_task(self.name, total=self.steps, info="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def note(self, text: str) -> None:
        """Print a line."""
        console.print(f"  {self.name}: {text}")

    def advanced(self, step: int, loss: float) -> None:
        """Call after a training step.

        :param step: number of steps done, of `self.steps`.
        """
        self.loss = loss if self.loss is None else 0.98 * self.loss + 0.02 * loss
        if self._first_step is None:
            self._first_step = step
        if self._bar:
            self._bar.update(self._task, completed=step, info=f"loss {self.loss:.4f}  {self.metrics}")
        elif time.monotonic() - self._logged > LOG_SECONDS:
            self._logged = time.monotonic()
            done = step - self._first_step
            left = (self._logged - self._started) / max(done, 1) * (self.steps - step)
            self.note(f"step {step}/{self.steps}  loss {self.loss:.4f}  {self.metrics}  {left:.0f} s left")

    def evaluated(self, epoch: int, metrics: dict[str, float]) -> None:
        """Call after an epoch, with its number (counted from one) and its dev metrics."""
        self.metrics = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items() if name != "metric")
        self.note(f"epoch {epoch}  loss {self.loss or 0:.4f}  {self.metrics}")


def with_progress(
    items: Iterable[T], total: int, name: str, *, unit: str = "texts", size: Callable[[T], int] = lambda item: 1
) -> Iterator[T]:
    """The same items. Shows a live bar on a terminal, and prints a line every few seconds elsewhere.

    :param total: the size of all items together.
    :param size: how much of the work an item is.
    """
    live = has_live_bars()
    bar = Progress(console=console, transient=True, disable=not live)
    with bar:
        task, done = bar.add_task(f"  {name}", total=total), 0
        started = logged = time.monotonic()
        for item in items:
            yield item
            done += size(item)
            bar.update(task, completed=done)
            if not live and time.monotonic() - logged > LOG_SECONDS:
                logged = time.monotonic()
                left = (logged - started) / done * (total - done)
                console.print(f"  {name}: {done:,} of {total:,} {unit}  {left:.0f} s left")
