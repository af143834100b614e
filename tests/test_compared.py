"""What docs/compared.md says beside its tables is what was measured; the tables themselves are drawn from the file (tests/test_docs.py)."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean
from typing import Any

DOCS = Path(__file__).parents[1] / "docs"
PAGE = " ".join((DOCS / "compared.md").read_text(encoding="utf-8").split())


def read(name: str) -> Any:
    return json.loads((DOCS / name).read_text(encoding="utf-8"))


FOUND = read("compared.json")


def test_it_is_measured_on_the_texts_of_the_default_task() -> None:
    assert FOUND["texts"] == read("sentiment/manifest.json")["provenance"]["sizes"]
    assert f"{FOUND['texts']['train']:,} labelled texts" in PAGE


def test_others_are_better_where_the_page_says_so() -> None:
    ms = {name: times["median"] for name, times in FOUND["ms"].items()}
    assert ms["model2vec"] < ms["pocketbert"]
    assert 4 * ms["fasttext"] < ms["pocketbert"]
    assert max(FOUND["made"][name]["cpu_s"] for name in ("tfidf", "fasttext", "model2vec")) < 120

    def few(tool: str) -> float:
        return mean(right for name, right in FOUND["right"].items() if name.startswith(f"{tool}-"))

    assert few("setfit") > few("tfidf")


def test_the_student_is_better_where_the_page_says_so() -> None:
    right, ms = FOUND["right"], {name: times["median"] for name, times in FOUND["ms"].items()}
    others = max(number for name, number in right.items() if name != "pocketbert")
    assert right["pocketbert"] - others > 0.05 * FOUND["texts"]["test"]
    assert ms["optimum-6"] > 20 * ms["pocketbert"]
