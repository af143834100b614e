"""The plot of a comparison: latency against accuracy, with one mark for each engine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import log10
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cells import EngineResult
from bench.engines import Family
from bench.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS: dict[Family, str] = {"bert": "#7a7f87", "teacher": "#c2571a", "student": "#1a6fb0", "rival": "#3d8b57"}
MARKERS: dict[Family, str] = {"bert": "D", "teacher": "s", "student": "o", "rival": "^"}
INK, GRID = "#22262b", "#e3e6ea"
NEAR = 10  # labels of two points can overlap if their latencies differ by a smaller factor


@dataclass(frozen=True)
class _Mark:
    ms: float
    accuracy: float | None  # %
    title: str
    family: Family


def write_plot(report: Report, directory: Path) -> None:
    """Write `latency_accuracy.png` and `.svg`: p50 at batch 1 (log scale, tokenisation included) against accuracy.

    An engine without an accuracy is a vertical line.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure  # not pyplot: no global state, no display

    with rc_context({"font.family": "DejaVu Sans", "font.size": 10, "svg.hashsalt": "pocketbert", "text.color": INK}):
        figure = Figure(figsize=(8, 4.6), layout="constrained")
        _draw(figure.subplots(), report)
        for suffix in ("png", "svg"):
            temporary = directory / f".latency_accuracy.{suffix}.tmp"
            figure.savefig(temporary, format=suffix, dpi=160, metadata={"Date": None} if suffix == "svg" else None)
            os.replace(temporary, directory / f"latency_accuracy.{suffix}")


def _draw(axes: Axes, report: Report) -> None:
    marks = [mark for engine in report.engines if (mark := _mark(report, engine))]
    _set_scales(axes, marks)
    for mark in marks:
        if mark.accuracy is None:
            # Lines are often close to each other. The slowest one has free space on its left.
            _draw_line(axes, mark, "left" if mark.ms == max(m.ms for m in marks) else "right")
        else:
            _draw_point(axes, mark, _label_place(axes, mark, marks))
    threads = "1 thread" if report.threads == 1 else f"{report.threads} threads"
    axes.set_xlabel(f"p50 latency, ms (batch 1, {report.headline}, tokenisation included, {threads})")
    axes.set_ylabel(f"{report.split} accuracy, %")
    axes.set_title(f"{report.name}: latency and accuracy", loc="left", fontsize=12, fontweight="bold", pad=22)
    validity = "Not valid: the machine was busy · " if report.warning else ""
    machine = f"{validity}{report.environment.gpu or report.environment.cpu} · {report.created[:10]}"
    axes.text(0, 1.03, machine, transform=axes.transAxes, fontsize=8.5, color=COLOURS["bert"])


def _mark(report: Report, engine: EngineResult) -> _Mark | None:
    cell = report.cell(engine, report.headline, 1)
    ms = cell.summary.total_ms["p50"] if cell else None
    if ms is None:
        return None
    return _Mark(ms, engine.accuracy.percent if engine.accuracy else None, engine.spec.title, engine.spec.family)


def _set_scales(axes: Axes, marks: list[_Mark]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    latencies, accuracies = [mark.ms for mark in marks], [mark.accuracy for mark in marks if mark.accuracy is not None]
    decades = max(log10(max(latencies) / min(latencies)), 1)
    axes.set_xscale("log")
    # Space for half a label on the left. On the right, the labels of lines are on the left of the line.
    axes.set_xlim(min(latencies) / 10 ** (0.22 * decades), max(latencies) * 10 ** (0.08 * decades))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    if accuracies:
        middle, spread = (min(accuracies) + max(accuracies)) / 2, max(max(accuracies) - min(accuracies), 2.0)
        axes.set_ylim(middle - 0.8 * spread, middle + 0.8 * spread)
    else:
        axes.set_yticks([])
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRID)
    axes.tick_params(which="both", length=0)


def _draw_line(axes: Axes, mark: _Mark, horizontal: str) -> None:
    colour = COLOURS[mark.family]
    axes.axvline(mark.ms, color=colour, linewidth=1.2, linestyle=(0, (4, 3)))
    axes.annotate(
        f"{mark.title}, {mark.ms:.3g} ms (time only)",
        xy=(mark.ms, 0.03),
        xycoords=("data", "axes fraction"),
        xytext=(-4 if horizontal == "right" else 4, 0),
        textcoords="offset points",
        rotation=90,
        ha=horizontal,
        va="bottom",
        fontsize=8,
        color=colour,
        path_effects=_halo(),
    )


def _draw_point(axes: Axes, mark: _Mark, place: str) -> None:
    assert mark.accuracy is not None
    offset, horizontal, vertical = {
        "above": ((0, 10), "center", "bottom"),
        "below": ((0, -10), "center", "top"),
        "left": ((-11, 0), "right", "center"),
    }[place]
    colour = COLOURS[mark.family]
    axes.plot([mark.ms], [mark.accuracy], MARKERS[mark.family], color=colour, ms=9, markeredgecolor="white", zorder=5)
    axes.annotate(
        f"{mark.title}\n{mark.ms:.3g} ms · {mark.accuracy:.1f} %",
        xy=(mark.ms, mark.accuracy),
        xytext=offset,
        textcoords="offset points",
        ha=horizontal,
        va=vertical,
        fontsize=9,
        linespacing=1.3,
        color=colour,
        path_effects=_halo(),
        zorder=4,
    )


def _label_place(axes: Axes, mark: _Mark, marks: list[_Mark]) -> str:
    """Where a point's label is: on the left in the right half of the plot; else above, or below if a neighbour is more accurate."""
    low, high = map(log10, axes.get_xlim())
    if (log10(mark.ms) - low) / (high - low) > 0.5:
        return "left"
    neighbours = [other for other in marks if other.accuracy is not None and 1 / NEAR < other.ms / mark.ms < NEAR]
    best = max(neighbours, key=lambda other: (other.accuracy or 0, other.ms))
    return "above" if mark is best else "below"


def _halo() -> list[Any]:
    """A white outline, so that no grid line crosses a label."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=3, foreground="white")]
