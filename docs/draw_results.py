"""Draw `results.svg`, what goes in and what comes out of the default recipe, from the manifest of its bundle.

Usage: python docs/draw_results.py [OUTPUT.svg]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

DOCS = Path(__file__).parent
WIDTH, HEIGHT, TOP = 176, 92, 44
GAP = 30
GREY, ORANGE, BLUE, GREEN = "#7a7f87", "#c2571a", "#1a6fb0", "#3d8b57"


def main() -> None:
    """Write the picture."""
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS / "results.svg"
    output.write_text(picture(json.loads((DOCS / "sentiment" / "manifest.json").read_text("utf-8"))), encoding="utf-8")


def picture(manifest: dict) -> str:
    """The SVG: a row of boxes, an arrow between two of them; each box has a title and lines below it."""
    card, models = manifest["provenance"], manifest["models"]

    def student(precision: str) -> list[str]:
        model = models[precision]
        megabytes = manifest["files"][model["file"]]["bytes"] / 1e6
        return [f"{100 * model['test_accuracy']:.1f} % right", f"{megabytes:.1f} MB"]

    boxes = [
        ("texts + BERT", [f"{card['sizes']['train']:,} labelled texts", "and a bank without labels"], GREY),
        ("teacher", [f"{100 * card['teacher']['accuracy']['test']:.1f} % right", "fine-tuned, 90.9 MB"], ORANGE),
        ("student", [*student("fp32"), "searched, distilled"], BLUE),
        ("INT8", [*student("int8"), "checked on dev"], BLUE),
        ("HTTP", ["BentoML,", "no torch needed"], GREEN),
    ]
    width = len(boxes) * (WIDTH + GAP) - GAP + 16
    linear = 100 * card["linear"]["accuracy"]["test"]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {TOP + HEIGHT + 40}" '
        'font-family="DejaVu Sans, Helvetica, Arial, sans-serif" text-anchor="middle">',
        f'<rect width="{width}" height="{TOP + HEIGHT + 40}" rx="8" fill="#ffffff"/>',
        f'<text x="{width / 2:.0f}" y="28" font-size="14" fill="#22262b">make compress-and-export</text>',
    ]
    for index, (title, lines, colour) in enumerate(boxes):
        left = 8 + index * (WIDTH + GAP)
        middle = left + WIDTH // 2
        parts.append(f'<rect x="{left}" y="{TOP}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="{colour}"/>')
        parts.append(f'<text x="{middle}" y="{TOP + 25}" font-size="16" font-weight="bold" fill="#fff">{title}</text>')
        parts += [
            f'<text x="{middle}" y="{TOP + 45 + 17 * row}" font-size="11.5" fill="#fff">{line}</text>'
            for row, line in enumerate(lines)
        ]
        if index:
            y = TOP + HEIGHT // 2
            parts.append(f'<path d="M{left - GAP + 4} {y}h{GAP - 14}" stroke="{GREY}" stroke-width="2.5"/>')
            parts.append(f'<path d="M{left - 12} {y - 6}l9 6l-9 6z" fill="{GREY}"/>')
    test = f"{card['sizes']['test']:,} test texts of four domains; a linear model is right on {linear:.1f} %"
    parts.append(f'<text x="{width / 2:.0f}" y="{TOP + HEIGHT + 26}" font-size="12" fill="{GREY}">{test}</text>')
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    main()
