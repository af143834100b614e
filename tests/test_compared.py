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


def test_it_is_the_default_task_with_the_students_known_accuracy() -> None:
    manifest = read("sentiment/manifest.json")
    assert FOUND["texts"] == manifest["provenance"]["sizes"]
    assert f"{FOUND['texts']['train']:,} labelled texts" in PAGE
    assert f"{100 * manifest['provenance']['teacher']['accuracy']['test']:.2f} %" in PAGE
    assert abs(FOUND["accuracy"]["pocketbert"] - manifest["models"]["int8"]["test_accuracy"]) < 1e-4


def test_the_accuracy_of_the_small_bert_in_int8_is_that_of_the_report() -> None:
    rows = {row["title"]: row for row in read("sentiment/cascade.json")["rows"]}
    assert f"fine-tuned, has {100 * rows['teacher alone']['accuracy']:.2f} %" in PAGE


def test_others_are_better_where_the_page_says_so() -> None:
    ms = {name: times["median"] for name, times in FOUND["ms"].items()}
    assert ms["model2vec"] < ms["pocketbert"]
    assert 10 * ms["fasttext"] < ms["pocketbert"]
    assert max(FOUND["made"][name]["cpu_s"] for name in ("tfidf", "fasttext", "model2vec")) < 120

    def few(tool: str) -> float:
        return mean(share for name, share in FOUND["accuracy"].items() if name.startswith(f"{tool}-"))

    assert few("setfit") > few("tfidf")


def test_the_student_is_better_where_the_page_says_so() -> None:
    right, ms = FOUND["accuracy"], {name: times["median"] for name, times in FOUND["ms"].items()}
    assert right["pocketbert"] > 0.05 + max(share for name, share in right.items() if name != "pocketbert")
    assert ms["optimum-6"] > 20 * ms["pocketbert"]
