"""Draws `docs/architecture.svg`: the rooms of the code and the imports between them, as grimp reads them from the sources.

    python docs/draw_architecture.py [FILE]

`ROOMS` gives each room its place and a few words. The arrows come from the code. An arrow that follows from other arrows
is left out (transitive reduction). The same imports always give the same bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from html import escape
from itertools import pairwise
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "docs" / "architecture.svg"
PACKAGES = ("compress", "export", "serve", "bench", "pocketbert")

# All lengths are in pixels.
COLUMN, ROW = 178, 66  # distance between the centres of neighbours
WIDTH, HEIGHT = 164, 46  # of a box in one column
MARGIN = 24
INK, GREY, FRAME, SERVING = "#1f2933", "#5b6770", "#f1f4f8", "#d9f0e3"
FONT = "font-family='Helvetica, Arial, sans-serif'"


@dataclass(frozen=True)
class Room:
    """A box of the picture: modules that belong together.

    :param modules: its packages and modules; a module belongs to the room with the longest name that fits it.
    :param row: counted from the top. A room imports only from rooms in rows below its own.
    :param first: its first column, counted from the left.
    :param last: its last column.
    """

    modules: tuple[str, ...]
    row: int
    first: int
    last: int
    purpose: str

    @property
    def name(self) -> str:
        """What the picture calls it."""
        first, *others = (module.removeprefix("compress.") for module in self.modules)
        return " + ".join([first, *(other.removeprefix("export.") for other in others)])

    @property
    def left(self) -> float:
        """The left side's x."""
        return MARGIN + COLUMN * self.first + (COLUMN - WIDTH) / 2

    @property
    def right(self) -> float:
        """The right side's x."""
        return MARGIN + COLUMN * (self.last + 1) - (COLUMN - WIDTH) / 2

    @property
    def top(self) -> float:
        """The upper side's y."""
        return MARGIN + ROW * self.row + (ROW - HEIGHT) / 2

    @property
    def bottom(self) -> float:
        """The lower side's y."""
        return self.top + HEIGHT

    @property
    def x(self) -> float:
        """The centre's x."""
        return (self.left + self.right) / 2

    @property
    def y(self) -> float:
        """The centre's y."""
        return (self.top + self.bottom) / 2


ROOMS = (
    Room(("pocketbert",), 0, 3, 5, "one command, and names for Python"),
    Room(("bench",), 1, 3, 4, "measures and compares"),
    Room(("serve.bulk",), 1, 5, 5, "tables of any size"),
    Room(("export",), 2, 3, 3, "makes a checked bundle"),
    Room(("serve",), 2, 4, 4, "answers over HTTP"),
    Room(
        ("export.bundle", "export.golden", "export.pack", "export.session", "export.tensorrt_session"),
        7,
        3,
        4,
        "opens a bundle, computes its logits",
    ),
    Room(("export.manifest", "export.reference"), 8, 3, 4, "what is in a bundle; what dev was like"),
    Room(("export.batching", "export.cuda"), 9, 3, 4, "padded batches; calls of CUDA"),
    Room(("compress.pipeline",), 3, 0, 2, "the stages in order, each as a record; skips what is up to date"),
    Room(("compress.l2a",), 4, 0, 0, "a policy selects texts"),
    Room(("compress.search",), 4, 2, 2, "finds a cnn's cell"),
    Room(("compress.distil",), 5, 1, 1, "trains the student"),
    Room(("compress.augment", "compress.transfer"), 6, 0, 0, "more texts to learn from"),
    Room(("compress.teachers", "compress.baselines"), 7, 1, 1, "a teacher; what to beat"),
    Room(("compress.training",), 8, 0, 0, "the training loop"),
    Room(("compress.students",), 8, 2, 2, "the small networks"),
    Room(("compress.objectives", "compress.heads"), 9, 1, 1, "losses on tensors; a head on the mean state"),
    Room(("compress.data",), 10, 0, 2, "texts, batches, pinned downloads, files"),
    Room(("compress.recipe",), 11, 0, 1, "every setting, checked, with its default"),
    Room(("compress.busy", "compress.console", "compress.html"), 11, 2, 2, "messages, exit status"),
    Room(("compress.processes",), 12, 2, 2, "several share a training"),
    Room(("compress.runtime",), 13, 0, 2, "text encoder, ONNX Runtime sessions, UserError"),
)
SERVER = next(room for room in ROOMS if room.name == "serve")
Edges = dict[Room, set[Room]]  # a room → the rooms that it imports from


def room_of(module: str) -> Room | None:
    """The room of a module; None for command lines, which put rooms together, and for the version in `compress`.

    :raises SystemExit: no room has the module.
    """
    if module.endswith(".__main__") or module == "compress":
        return None
    fits = [(len(name), room) for room in ROOMS for name in room.modules if f"{module}.".startswith(f"{name}.")]
    if not fits:
        raise SystemExit(f"{module}: has no room; give it one in ROOMS of {Path(__file__).name}")
    return max(fits, key=lambda fit: fit[0])[1]


def read_imports() -> Edges:
    """The imports between rooms, those inside functions and those for types included.

    :raises SystemExit: a room imports from one that is not below it, or a module has no room.
    """
    # No cache: the sources are small, and the cache would lie in the working directory.
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    edges: Edges = {room: set() for room in ROOMS}
    for module in graph.modules:
        if (room := room_of(module)) is not None:
            others = {room_of(other) for other in graph.find_modules_directly_imported_by(module)}
            edges[room] |= {other for other in others if other is not None and other != room}
    for start, end in ((start, end) for start, ends in edges.items() for end in ends):
        if end.row <= start.row:
            raise SystemExit(f"{start.name} → {end.name}: this import goes up; see ROOMS of {Path(__file__).name}")
    return edges


def reachable(edges: Edges) -> Edges:
    """For each room, all rooms that it needs, directly or not."""
    found: Edges = {}
    for room in TopologicalSorter(edges).static_order():  # a room comes after those that it imports from
        found[room] = edges[room].union(*(found[other] for other in edges[room]))
    return found


def reduced(edges: Edges) -> Edges:
    """The edges without those that follow from others."""
    needed = reachable(edges)
    return {room: {to for to in tos if not any(to in needed[other] for other in tos)} for room, tos in edges.items()}


Point = tuple[float, float]


def route(start: Room, end: Room) -> list[Point]:
    """The corners of an arrow: straight down where one room is above the other, else down and into its side.

    :raises SystemExit: another room is in the way.
    """
    low, high = max(start.left, end.left), min(start.right, end.right)
    if low < high:  # one is above the other
        x = end.x if end.right - end.left <= start.right - start.left else start.x
        points = [(x, start.bottom), (x, end.top)]
    else:
        points = [(start.x, start.bottom), (start.x, end.y), (end.left if start.x < end.left else end.right, end.y)]
    for room in ROOMS:
        if room not in (start, end) and any(_meets(room, *leg) for leg in pairwise(points)):
            raise SystemExit(
                f"{start.name} → {end.name}: runs through {room.name}; move one in ROOMS of {Path(__file__).name}"
            )
    return points


def _meets(room: Room, start: Point, end: Point) -> bool:
    """Whether a horizontal or vertical line touches a box."""
    (left, right), (top, bottom) = sorted((start[0], end[0])), sorted((start[1], end[1]))
    return left <= room.right and right >= room.left and top <= room.bottom and bottom >= room.top


def draw(edges: Edges) -> str:
    """The picture as SVG."""
    served = {SERVER} | reachable(edges)[SERVER]
    shown = reduced(edges)
    width = 2 * MARGIN + COLUMN * (max(room.last for room in ROOMS) + 1)
    height = 2 * MARGIN + ROW * (max(room.row for room in ROOMS) + 1)
    lines = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}' {FONT}>",
        "<title>The rooms of the code and the imports between them</title>",
        "<defs><marker id='head' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='8' markerHeight='8' orient='auto'>"
        f"<path d='M0 0 L8 4 L0 8 Z' fill='{GREY}'/></marker></defs>",
        f"<rect width='{width}' height='{height}' fill='white'/>",
        *_frame(),
        *(line for start in ROOMS for end in ROOMS if end in shown[start] for line in _arrow(start, end)),
        *(line for room in ROOMS for line in _box(room, SERVING if room in served else "white")),
        *_legend(),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _frame() -> Iterator[str]:
    """The package `compress` around its rooms."""
    rooms = [room for room in ROOMS if room.modules[0].startswith("compress.")]
    left, right = min(room.left for room in rooms) - 12, max(room.right for room in rooms) + 12
    top, bottom = min(room.top for room in rooms) - 36, max(room.bottom for room in rooms) + 14
    yield _rect(left, top, right, bottom, FRAME, "none", 10)
    yield _text(left + 12, top + 21, "compress", 15, INK, "font-weight='bold'")


def _box(room: Room, fill: str) -> Iterator[str]:
    yield _rect(room.left, room.top, room.right, room.bottom, fill, INK, 6)
    yield _text(room.x, room.y - 4, room.name, 13, INK, "font-weight='bold' text-anchor='middle'")
    yield _text(room.x, room.y + 13, room.purpose, 11, GREY, "text-anchor='middle'")


def _arrow(start: Room, end: Room) -> Iterator[str]:
    corners = " ".join(f"{x:g},{y:g}" for x, y in route(start, end))
    yield f"<polyline points='{corners}' fill='none' stroke='{GREY}' stroke-width='1.3' marker-end='url(#head)'/>"


def _legend() -> Iterator[str]:
    """In the upper left corner, above `compress`."""
    left, top = MARGIN + 24, MARGIN + 24
    yield f"<polyline points='{left},{top - 4} {left + 30},{top - 4}' stroke='{GREY}' marker-end='url(#head)'/>"
    yield _text(left + 42, top, "imports from (an arrow that follows from other arrows is left out)", 12, INK)
    yield _rect(left, top + 15, left + 30, top + 31, SERVING, INK, 4)
    yield _text(left + 42, top + 28, "what serving loads: no torch, no transformers", 12, INK)


def _rect(left: float, top: float, right: float, bottom: float, fill: str, stroke: str, radius: int) -> str:
    return (
        f"<rect x='{left:g}' y='{top:g}' width='{right - left:g}' height='{bottom - top:g}' rx='{radius}' "
        f"fill='{fill}' stroke='{stroke}'/>"
    )


def _text(x: float, y: float, text: str, size: int, colour: str, more: str = "") -> str:
    return f"<text x='{x:g}' y='{y:g}' font-size='{size}' fill='{colour}' {more}>{escape(text)}</text>"


def main() -> None:
    """Draw the picture of the tree that this file is in."""
    sys.path.insert(0, str(ROOT))  # and not of an installed copy
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else FILE
    target.write_text(draw(read_imports()), encoding="utf-8")


if __name__ == "__main__":
    main()
