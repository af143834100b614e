"""The plot of a comparison: latency against accuracy, with one mark for each engine."""

from __future__ import annotations

from dataclasses import dataclass
from math import log10
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cells import EngineResult
from bench.drawing import COLOURS, GRID, drawn, plain, under_title
from bench.engines import Family
from bench.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

MARKERS: dict[Family, str] = {"bert": "D", "teacher": "s", "student": "o", "rival": "^"}
# Where a label can be: offset from the point, and which side of the label is there. The first ones are preferred.
_PLACES = (
    ((0, 10), "center", "bottom"),
    ((0, -10), "center", "top"),
    ((-11, 0), "right", "center"),
    ((11, 0), "left", "center"),
    ((-11, 9), "right", "bottom"),
    ((11, 9), "left", "bottom"),
    ((-11, -9), "right", "top"),
    ((11, -9), "left", "top"),
    ((0, 34), "center", "bottom"),
    ((0, -34), "center", "top"),
    *(((-11 * far, 9 * up), "right", "bottom" if up > 0 else "top") for far in (1, 4) for up in (3, -3)),
)
_POINT = 10  # pixels from the middle of a point to its edge
_LINE = 7  # pixels on each side of a line that stay free


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
    with drawn(directory, "latency_accuracy", (8, 4.6)) as figure:
        _draw(figure.subplots(), report)


def _draw(axes: Axes, report: Report) -> None:
    marks = [mark for engine in report.engines if (mark := _mark(report, engine))]
    _set_scales(axes, marks)
    # Lines are often close to each other. The slowest one has free space on its right.
    slowest = max(mark.ms for mark in marks)
    lines = [
        _draw_line(axes, mark, "left" if mark.ms == slowest else "right") for mark in marks if mark.accuracy is None
    ]
    threads = "1 thread" if report.threads == 1 else f"{report.threads} threads"
    axes.set_xlabel(f"p50 latency, ms (batch 1, {report.headline}, tokenisation included, {threads})")
    axes.set_ylabel(f"{report.split} accuracy, %")
    axes.set_title(f"{report.name}: latency and accuracy", loc="left", fontsize=12, fontweight="bold", pad=22)
    machine = f"{report.environment.gpu or report.environment.cpu} · {report.created[:10]}"
    under_title(axes, machine, warning=report.environment.warning, font_size=8.5)
    _draw_points(axes, [mark for mark in marks if mark.accuracy is not None], lines)


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
    plain(axes)
    axes.spines[["left", "bottom"]].set_color(GRID)


def _draw_line(axes: Axes, mark: _Mark, horizontal: str) -> Annotation:
    """A line at a time, with its label; returns that."""
    colour = COLOURS[mark.family]
    axes.axvline(mark.ms, color=colour, linewidth=1.2, linestyle=(0, (4, 3)))
    return axes.annotate(
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


def _draw_points(axes: Axes, marks: list[_Mark], lines: list[Annotation]) -> None:
    """The points, each with a label at the first place where it covers no other label, no point and no line.

    :param lines: the labels of the lines, which are drawn already.
    """
    from matplotlib.transforms import Bbox

    points = [(mark.ms, mark.accuracy) for mark in marks if mark.accuracy is not None]
    if not points:
        return
    for mark, (ms, accuracy) in zip(marks, points, strict=True):
        style = MARKERS[mark.family]
        axes.plot([ms], [accuracy], style, color=COLOURS[mark.family], ms=9, markeredgecolor="white", zorder=5)
    figure = axes.get_figure(root=True)
    assert figure is not None, "axes are of a figure"
    figure.draw_without_rendering()  # the layout is final, so that places can be compared
    taken = [
        Bbox.from_bounds(x - _POINT, y - _POINT, 2 * _POINT, 2 * _POINT) for x, y in axes.transData.transform(points)
    ]
    bottom, top = axes.get_window_extent().intervaly
    for label in lines:
        x = axes.transData.transform((label.xy[0], 0))[0]
        taken += [label.get_window_extent(), Bbox([[x - _LINE, bottom], [x + _LINE, top]])]
    for mark in marks:
        taken.append(_draw_label(axes, mark, taken))


def _draw_label(axes: Axes, mark: _Mark, taken: list[Bbox]) -> Bbox:
    """Write the label where it covers least; returns its box in pixels."""
    from matplotlib.transforms import Bbox

    found: list[tuple[float, int, Annotation, Bbox]] = []
    room = axes.get_window_extent()
    for number, (offset, horizontal, vertical) in enumerate(_PLACES):
        label = axes.annotate(
            f"{mark.title}\n{mark.ms:.3g} ms · {mark.accuracy:.1f} %",
            xy=(mark.ms, mark.accuracy),
            xytext=offset,
            textcoords="offset points",
            ha=horizontal,
            va=vertical,
            fontsize=9,
            linespacing=1.3,
            color=COLOURS[mark.family],
            path_effects=_halo(),
            zorder=4,
        )
        box = label.get_window_extent()
        covered = sum(_area(shared) for other in taken if (shared := Bbox.intersection(box, other)))
        outside = _area(box) - _area(Bbox.intersection(box, room) or Bbox.null())
        found.append((covered + outside, number, label, box))
    _, chosen, _, box = min(found, key=lambda place: place[:2])
    for _, number, label, _ in found:
        if number != chosen:
            label.remove()
    return box


def _area(box: Bbox) -> float:
    return max(box.width, 0.0) * max(box.height, 0.0)


def _halo() -> list[Any]:
    """A white outline, so that no grid line crosses a label."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=3, foreground="white")]
