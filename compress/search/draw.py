"""A drawing of a cell as a graph: inputs, inner nodes, operations on the edges, output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compress.students.genotype import NODES, Genotype

_COLOURS = {"conv": "#2b6cb0", "dilated": "#6b46c1", "max": "#b7791f", "avg": "#b7791f", "identity": "#718096"}
_BOX: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 10, "zorder": 3}


def draw_cell(genotype: Genotype, directory: Path, title: str) -> None:
    """Write `cell.svg` and `cell.png` to `directory`."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyArrowPatch

    figure = Figure(figsize=(9, 3.6))
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.9))
    places = [(0.0, 1.0), (0.0, -1.0), *((2.2 * (i + 1), (-1.0) ** i * 0.45) for i in range(NODES))]
    output = (2.2 * (NODES + 1), 0.0)
    names = ["input 1", "input 2", *(f"node {i + 1}" for i in range(NODES))]
    for name, (x, y) in [*zip(names, places, strict=True), ("output", output)]:
        face = "#e2e8f0" if name.startswith("node") else "#f7fafc"
        axes.text(x, y, name, bbox={"boxstyle": "round,pad=0.5", "fc": face, "ec": "#4a5568"}, **_BOX)

    def arrow(start: tuple[float, float], end: tuple[float, float], bend: float, colour: str, style: str) -> None:
        axes.add_patch(
            FancyArrowPatch(
                start,
                end,
                arrowstyle="-|>",
                mutation_scale=12,
                shrinkA=26,
                shrinkB=28,
                connectionstyle=f"arc3,rad={bend}",
                color=colour,
                linestyle=style,
                linewidth=1.4,
            )
        )

    for number, (node, edge) in enumerate(genotype.edges):
        (x0, y0), (x1, y1) = places[edge.source], places[2 + node]
        # Edges bend up and down in turn, so two edges between the same columns do not cover each other.
        bend = (-1) ** number * 0.12 * (1 + (x1 - x0) / 6)
        colour = next(c for prefix, c in _COLOURS.items() if edge.operation.startswith(prefix))
        arrow((x0, y0), (x1, y1), bend, colour, "-")
        # The middle of a quadratic Bézier curve is half the control point's offset away from the middle of the chord.
        middle = (0.5 * (x0 + x1) + 0.5 * bend * (y1 - y0), 0.5 * (y0 + y1) - 0.5 * bend * (x1 - x0))
        axes.text(*middle, edge.operation, color=colour, bbox={"fc": "white", "ec": "none", "pad": 1.0}, **_BOX)
    for place in places[2:]:
        arrow(place, output, -0.25 if place[1] > 0 else 0.25, "#a0aec0", ":")
    axes.set_xlim(-0.7, output[0] + 0.7)
    axes.set_ylim(-1.6, 1.6)
    axes.axis("off")
    figure.suptitle(title, fontsize=11, x=0.02, ha="left")
    with rc_context({"svg.hashsalt": "pocketbert"}):  # the same cell gives the same bytes
        figure.savefig(directory / "cell.png", dpi=120)
        figure.savefig(directory / "cell.svg", metadata={"Date": None})
