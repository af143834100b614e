"""The plot of a cascade: accuracy and mean latency against the share of texts that go to the teacher."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cascade.report import CascadeReport
from bench.plot import COLOURS, GRID, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def write_plot(report: CascadeReport, directory: Path) -> None:
    """Write `cascade.png` and `cascade.svg`."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure  # not pyplot: no global state, no display

    with rc_context({"font.family": "DejaVu Sans", "font.size": 10, "svg.hashsalt": "pocketbert", "text.color": INK}):
        figure = Figure(figsize=(10, 4.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        _draw_accuracy(left, report)
        _draw_latency(right, report)
        for suffix in ("png", "svg"):
            temporary = directory / f".cascade.{suffix}.tmp"
            figure.savefig(temporary, format=suffix, dpi=160, metadata={"Date": None} if suffix == "svg" else None)
            os.replace(temporary, directory / f"cascade.{suffix}")


def _draw_accuracy(axes: Axes, report: CascadeReport) -> None:
    *cascade, teacher = report.rows
    curve = report.dev.curve
    axes.plot(
        [100 * point.share for point in curve],
        [100 * point.accuracy for point in curve],
        color=COLOURS["bert"],
        linewidth=1,
        label="dev, from the bundle",
    )
    axes.plot(
        [100 * row.share for row in cascade],
        [100 * row.accuracy for row in cascade],
        "o-",
        color=COLOURS["student"],
        label=report.split,
    )
    chosen = next((row for row in cascade if row.threshold == report.dev.chosen.threshold), None)
    if chosen is not None:
        place = (100 * chosen.share, 100 * chosen.accuracy)
        axes.plot(*place, "o", ms=15, color=COLOURS["student"], markerfacecolor="none", label="as exported")
    axes.axhline(100 * teacher.accuracy, color=COLOURS["teacher"], linewidth=1.2, linestyle=(0, (4, 3)))
    axes.annotate(
        f"teacher alone, {100 * teacher.accuracy:.1f} %",
        (1, 100 * teacher.accuracy),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        xytext=(0, -11),
        ha="right",
        fontsize=8,
        color=COLOURS["teacher"],
    )
    axes.set_ylabel("accuracy, %")
    axes.legend(frameon=False, fontsize=8.5, loc="lower right")
    axes.set_title(f"{report.name}: cascade", loc="left", fontsize=12, fontweight="bold", pad=22)
    validity = "Not valid: the machine was busy · " if report.warning else ""
    axes.text(0, 1.03, f"{validity}{report.machine}", transform=axes.transAxes, fontsize=8, color=COLOURS["bert"])
    _finish(axes)


def _draw_latency(axes: Axes, report: CascadeReport) -> None:
    *cascade, teacher = report.rows
    axes.plot([100 * row.share for row in cascade], [row.mean_ms for row in cascade], "o-", color=COLOURS["student"])
    axes.axhline(teacher.mean_ms, color=COLOURS["teacher"], linewidth=1.2, linestyle=(0, (4, 3)))
    axes.set_ylim(0)
    axes.set_ylabel("mean latency of a text, ms (tokenisation included)")
    _finish(axes)


def _finish(axes: Axes) -> None:
    axes.set_xlabel("texts that go to the teacher, %")
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(which="both", length=0)
