"""The plot of a front: latency against accuracy, a number for each student, lines for the teacher and the linear model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench.drawing import COLOURS, GRID, drawn, plain, under_title
from bench.front.results import Front, Student

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = {"cnn": "o", "transformer": "s", "bilstm": "^"}


def write_plot(front: Front, directory: Path) -> None:
    """Write `front.png` and `front.svg`. The numbers are those of the table; filled marks are on the Pareto front."""
    with drawn(directory, "front", (10, 4.8)) as figure:
        axes, names = figure.subplots(1, 2, width_ratios=(3, 2))
        _draw(axes, front)
        names.axis("off")
        listed = "\n".join(f"{number}  {s.title}" for number, s in enumerate(front.students, start=1))
        names.text(0, 1, listed, transform=names.transAxes, va="top", fontsize=8.5, linespacing=1.5)


def _draw(axes: Axes, front: Front) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    _line(axes, front.teacher, "teacher", COLOURS["teacher"])
    _line(axes, front.linear, "linear model on n-grams", COLOURS["rival"])
    best = [s for s in front.students if s.on_front]
    axes.step([s.latency_ms for s in best], [100 * s.accuracy for s in best], where="post", color=GRID, linewidth=2)
    for number, student in enumerate(front.students, start=1):
        _dot(axes, student, number, taken=student.title == front.taken)
    quantised = front.teachers[-1]
    axes.plot(quantised.latency_ms, 100 * quantised.accuracy, "D", color=COLOURS["teacher"], zorder=3)
    axes.annotate(
        f"teacher in INT8, {quantised.latency_ms:.3g} ms",
        (quantised.latency_ms, 100 * quantised.accuracy),
        textcoords="offset points",
        xytext=(-8, -8),
        ha="right",
        va="top",
        fontsize=8,
        color=COLOURS["teacher"],
    )
    axes.set_xlabel(
        f"p50 latency, ms (batch 1, the task's own texts, tokenisation included, {front.threads} thread"
        f"{'s' if front.threads > 1 else ''})"
    )
    axes.set_ylabel(f"{front.split} accuracy, %")
    axes.set_title(f"{front.name}: accuracy and latency", loc="left", fontsize=12, fontweight="bold", pad=22)
    under_title(axes, front.machine, warning=front.environment.warning)
    plain(axes)


def _line(axes: Axes, accuracy: float, title: str, colour: str) -> None:
    axes.axhline(100 * accuracy, color=colour, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
    axes.annotate(
        f"{title}, {100 * accuracy:.1f} %",
        (0.01, 100 * accuracy),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        xytext=(0, 3),
        fontsize=8,
        color=colour,
    )


def _dot(axes: Axes, student: Student, number: int, *, taken: bool) -> None:
    colour = COLOURS["student"] if student.on_front else COLOURS["bert"]
    place = (student.latency_ms, 100 * student.accuracy)
    if taken:
        axes.plot(*place, "o", ms=15, color=COLOURS["student"], markerfacecolor="none", zorder=2)
    mark = MARKERS[student.family]
    axes.plot(*place, mark, color=colour, markerfacecolor=colour if student.on_front else "white", zorder=3)
    axes.annotate(str(number), place, textcoords="offset points", xytext=(6, -10), fontsize=8.5, color=colour)
