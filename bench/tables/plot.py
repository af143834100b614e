"""The plot of a table: a panel for each data set, a line for each method, dots with error bars."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench.drawing import COLOURS, drawn, plain
from bench.tables.summary import Score, Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANEL, NAMES, LINE, MARGIN = 2.2, 1.4, 0.34, 1.3  # inches
ROOM = 0.12  # share of an axis that is empty on each side of the dots
LEAST = 2.0  # an axis spans at least so many points, so that small differences do not look large


def write_plot(summary: Summary, directory: Path) -> None:
    """Write `TABLE.svg` and `TABLE.png`. Dots are the first precision, squares the second. Each data set has its own axis."""
    table = summary.table
    columns = [data for data in table.data if any(summary.of(method, data) for method in table.method)]
    size = (max(NAMES + PANEL * len(columns), 5), MARGIN + LINE * len(table.method))
    with drawn(directory, table.name, size, font_size=9) as figure:
        panels = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
        for axes, data in zip(panels, columns, strict=True):
            _draw(axes, summary, data)
        panels[0].set_yticks(range(len(table.method)), list(table.method))
        panels[0].invert_yaxis()  # so that the table's first row is at the top
        figure.suptitle(table.title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        figure.supxlabel(_legend(summary), fontsize=8.5, color=COLOURS["bert"])


def _draw(axes: Axes, summary: Summary, data: str) -> None:
    axes.set_title(data, fontsize=10)
    ends: list[float] = []
    for line, (method, row) in enumerate(summary.table.method.items()):
        colour = COLOURS["teacher" if row.stop else "student"]
        for precision in reversed(summary.table.precisions):  # so that the main precision covers the other
            if score := summary.score(method, data, precision):
                _dot(axes, score, line, colour, full=precision == summary.table.shown_precision(method))
                ends += [score.mean - (score.spread or 0), score.mean + (score.spread or 0)]
                if row.stop == "teacher":
                    axes.axvline(score.mean, color=colour, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    span = max(max(ends) - min(ends), LEAST)
    middle = (max(ends) + min(ends)) / 2
    axes.set_xlim(middle - (0.5 + ROOM) * span, middle + (0.5 + ROOM) * span)
    axes.set_ylim(-0.6, len(summary.table.method) - 0.4)
    plain(axes)
    axes.spines[["left", "bottom"]].set_visible(False)


def _dot(axes: Axes, score: Score, line: int, colour: str, *, full: bool) -> None:
    axes.errorbar(
        [score.mean],
        [line],
        xerr=[score.spread] if score.spread is not None and full else None,
        fmt="o" if full else "s",
        ms=6 if full else 8,
        color=colour,
        markerfacecolor=colour if full else "none",
        elinewidth=1.4,
        zorder=4 if full else 3,
    )


def _legend(summary: Summary) -> str:
    kinds = dict.fromkeys(column.metric for column in summary.table.data.values())
    parts = [f"{summary.main} {' or '.join(kind.upper() if kind == 'f1' else kind for kind in kinds)}, %"]
    if len(summary.table.precisions) > 1:
        parts.append(f"squares: {summary.table.precisions[1]}")
    if any(len(summary.table.seeds_of(data)) > 1 for data in summary.table.data):
        parts.append("bars: ± sample standard deviation over seeds")
    return " · ".join(parts)
