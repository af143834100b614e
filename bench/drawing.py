"""What all plots share: colours, the look of their axes, and files that are never half written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.engines import Family
from compress.runtime.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS: dict[Family, str] = {"bert": "#7a7f87", "teacher": "#c2571a", "student": "#1a6fb0", "rival": "#3d8b57"}
INK, GRID = "#22262b", "#e3e6ea"


@contextmanager
def drawn(directory: Path, name: str, size: tuple[float, float], font_size: float = 10) -> Iterator[Figure]:
    """A figure to draw on, which is then written as `NAME.png` and `NAME.svg`.

    :param size: width and height in inches.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure  # not pyplot: no global state, no display

    # Without a fixed salt and date, the same figure would be another file each time.
    with rc_context(
        {"font.family": "DejaVu Sans", "font.size": font_size, "svg.hashsalt": "pocketbert", "text.color": INK}
    ):
        figure = Figure(figsize=size, layout="constrained")
        yield figure
        for suffix in ("png", "svg"):
            with replacing(directory / f"{name}.{suffix}") as file:
                figure.savefig(file, format=suffix, dpi=160, metadata={"Date": None} if suffix == "svg" else None)


def plain(axes: Axes) -> None:
    """A light grid behind the data, and no frame but the two axes."""
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(which="both", length=0)


def under_title(axes: Axes, text: str, *, warning: str | None, font_size: float = 8) -> None:
    """The machine and the date in a line under the title; a measurement that is not valid says so there."""
    validity = "Not valid: the machine was busy · " if warning else ""
    axes.text(0, 1.03, f"{validity}{text}", transform=axes.transAxes, fontsize=font_size, color=COLOURS["bert"])
