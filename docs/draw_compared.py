"""Write the tables of `compared.md` from what was measured: `compared.json` and, for the teacher, `sentiment/report.json`.

Usage: python docs/draw_compared.py [OUTPUT.md]
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
PAGE = DOCS / "compared.md"
TABLE = re.compile(r"(<!-- table: (\w+) -->\n).*?(?=<!-- end -->)", re.DOTALL)
TITLES = {
    "pocketbert": "**pocketbert**, student INT8",
    "optimum-6": "MiniLM, INT8 by Optimum",
    "optimum-3": "3 of MiniLM's 6 layers, INT8 by Optimum",
    "setfit-16-0": "SetFit, 16 labels of each class",
    "tfidf": "scikit-learn, TF-IDF and logistic regression",
    "fasttext": "fastText",
    "model2vec": "model2vec, distilled from MiniLM",
}
FEW_TITLES = {"setfit": "SetFit", "tfidf": "scikit-learn, TF-IDF"}


def percent(found: dict[str, Any]) -> dict[str, float]:
    """Test accuracy of each tool, in %."""
    return {name: 100 * right / found["texts"]["test"] for name, right in found["right"].items()}


def full(found: dict[str, Any]) -> str:
    """Accuracy, size, time and training of each tool, the most accurate first."""
    lines = [
        "| | accuracy, % | MB | ms of CPU, 128 tokens | beside the student | training, CPU |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    student, accuracy = found["ms"]["pocketbert"]["median"], percent(found)
    for name, times in sorted(found["ms"].items(), key=lambda one: -accuracy.get(one[0], 0)):
        ms = times["median"]
        ratio = f"{digits(student / ms, 2)}× as fast" if ms < student else f"{digits(ms / student, 2)}× slower"
        trained = seconds(found["made"][name]["cpu_s"]) if name in accuracy and name in found["made"] else "–"
        cells = (
            f"{accuracy[name]:.2f}" if name in accuracy else "time only",
            digits(found["bytes"][name] / 1e6, 3),
            digits(ms, 2),
            "1" if name == "pocketbert" else ratio,
            trained,
        )
        lines.append(f"| {TITLES[name]} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def few(found: dict[str, Any]) -> str:
    """Test accuracy with a few labels of each class; of several draws the mean, the lowest and the highest."""
    accuracy = percent(found)
    draws = sorted({int(name.split("-")[1]) for name in found["made"] if name.count("-") == 2})
    lines = [f"| labels of each class | {' | '.join(map(str, draws))} | all |", f"|---|{'---:|' * (len(draws) + 1)}"]
    for tool, title in FEW_TITLES.items():
        cells = []
        for labels in draws:
            given = [share for name, share in accuracy.items() if name.startswith(f"{tool}-{labels}-")]
            spread = f" ({min(given):.1f} to {max(given):.1f})" if len(given) > 1 else ""
            cells.append(f"{statistics.mean(given):.1f}{spread}")
        cells.append(f"{accuracy[tool]:.1f}" if tool in accuracy else "–")
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def versions(found: dict[str, Any]) -> str:
    """What pip installed, for each tool."""
    sets = dict.fromkeys(
        ", ".join(f"{name} {number}" for name, number in one["versions"].items()) for one in found["made"].values()
    )
    return "; ".join(sets) + ".\n"


def digits(number: float, most: int) -> str:
    """A number with so many digits that count, never as 1e+02."""
    return f"{float(f'{number:.{most}g}'):,.0f}" if number >= 10**most - 0.5 else f"{number:.{most}g}"


def seconds(time: float) -> str:
    """A duration for people."""
    return f"{time:.0f} s" if time < 90 else f"{time / 60:.1f} min"


def main() -> None:
    """Write the page."""
    found = json.loads((DOCS / "compared.json").read_text(encoding="utf-8"))
    tables = {"full": full(found), "few": few(found), "versions": versions(found)}
    page = TABLE.sub(lambda match: f"{match[1]}\n{tables[match[2]]}\n", PAGE.read_text(encoding="utf-8"))
    Path(sys.argv[1] if sys.argv[1:] else PAGE).write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
