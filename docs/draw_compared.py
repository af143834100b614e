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


def full(found: dict[str, Any]) -> str:
    """Accuracy, size, time and training of each tool, the most accurate first."""
    lines = [
        "| | accuracy, % | MB | ms of CPU, 128 tokens | beside the student | training, CPU |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    student, accuracy = found["ms"]["pocketbert"]["median"], found["accuracy"]
    for name, times in sorted(found["ms"].items(), key=lambda one: -accuracy.get(one[0], 0)):
        ms = times["median"]
        ratio = f"{student / ms:.3g}× as fast" if ms < student else f"{ms / student:.3g}× slower"
        right = f"{100 * accuracy[name]:.2f}" if name in accuracy else "time only"
        trained = seconds(found["made"][name]["cpu_s"]) if name in accuracy and name in found["made"] else "–"
        size = f"{found['bytes'][name] / 1e6:.3g}"
        lines.append(
            f"| {TITLES[name]} | {right} | {size} | {ms:.3g} | {'1' if name == 'pocketbert' else ratio} | {trained} |"
        )
    return "\n".join(lines) + "\n"


def few(found: dict[str, Any]) -> str:
    """Test accuracy with a few labels of each class."""
    draws = sorted({int(name.split("-")[1]) for name in found["accuracy"] if "-" in name})
    lines = [f"| labels of each class | {' | '.join(map(str, draws))} | all |", f"|---|{'---:|' * (len(draws) + 1)}"]
    for tool, title in FEW_TITLES.items():
        cells = [accuracies(found, tool, labels) for labels in draws]
        all_texts = f"{100 * found['accuracy'][tool]:.1f}" if tool in found["accuracy"] else "–"
        lines.append(f"| {title} | {' | '.join(cells)} | {all_texts} |")
    return "\n".join(lines) + "\n"


def accuracies(found: dict[str, Any], tool: str, labels: int) -> str:
    """Mean of the draws, and their lowest and highest if there are several."""
    given = [100 * one for name, one in found["accuracy"].items() if name.startswith(f"{tool}-{labels}-")]
    spread = f" ({min(given):.1f} to {max(given):.1f})" if len(given) > 1 else ""
    return f"{statistics.mean(given):.1f}{spread}"


def versions(found: dict[str, Any]) -> str:
    """What pip installed."""
    names = dict(pair for one in found["made"].values() for pair in one["versions"].items())
    return ", ".join(f"{name} {number}" for name, number in sorted(names.items())) + ".\n"


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
