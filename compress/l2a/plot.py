"""A plot of the selector's log over the episodes: the keep rate by domain, kind and label, and the reward."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

_COLOURS = ("#2b6cb0", "#c2571a", "#6b46c1", "#2f855a", "#b7791f", "#718096")


def draw_selector(log: Sequence[dict[str, Any]], directory: Path, title: str) -> None:
    """Write `selector.svg` and `selector.png` to `directory`.

    :param log: one entry an episode, as in `selector.json`.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure  # pyplot would need global state and a display

    episodes = range(1, len(log) + 1)
    figure = Figure(figsize=(12, 3), layout="constrained")
    for axes, kind in zip(figure.subplots(1, 4), ("by domain", "by kind", "by label", "reward"), strict=True):
        if kind == "reward":
            lines = {name: [entry[name] for entry in log] for name in ("reward", "baseline")}
        else:
            names = [name for name in (log[0][kind] if log else ()) if any(e[kind][name] is not None for e in log)]
            # NaN is an episode without such a text. matplotlib leaves a gap there.
            lines = {name: [float("nan") if e[kind][name] is None else e[kind][name] for e in log] for name in names}
            axes.set_ylim(-0.03, 1.03)
        for (name, values), colour in zip(lines.items(), _COLOURS * (len(lines) // len(_COLOURS) + 1), strict=False):
            axes.plot(episodes, values, label=name, color=colour, linewidth=1.2, marker=".", markersize=3)
        axes.set_title(kind if kind == "reward" else f"keep rate {kind}", fontsize=9)
        axes.set_xlabel("episode", fontsize=8)
        axes.legend(fontsize=7)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    with rc_context({"svg.hashsalt": "pocketbert"}):  # the same log gives the same bytes
        figure.savefig(directory / "selector.png", dpi=120)
        figure.savefig(directory / "selector.svg", metadata={"Date": None})
