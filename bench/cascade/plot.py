"""The plot of a cascade: accuracy and mean latency against the share of texts that go to the teacher."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench.cascade.report import CascadeReport
from bench.drawing import COLOURS, drawn, plain, under_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def write_plot(report: CascadeReport, directory: Path) -> None:
    """Write `cascade.png` and `cascade.svg`."""
    with drawn(directory, "cascade", (10, 4.4)) as figure:
        left, right = figure.subplots(1, 2)
        _draw_accuracy(left, report)
        _draw_latency(right, report)


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
    under_title(axes, report.machine, warning=report.environment.warning)
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
    plain(axes)
