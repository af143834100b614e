"""What `inspect` shows of a bundle."""

from __future__ import annotations

from pathlib import Path

import pytest

from export.bundle import Bundle, find_bundle
from export.facts import bundle_facts, comparison, share_of_gap


def test_the_share_of_the_gap() -> None:
    assert share_of_gap(0.85, 0.80, 0.90) == pytest.approx(0.5)
    assert share_of_gap(0.78, 0.80, 0.90) == pytest.approx(-0.2)
    assert share_of_gap(0.85, 0.90, 0.90) is None


def test_the_facts_are_those_of_the_manifest(tiny_bundle: Path) -> None:
    facts = bundle_facts(Bundle(find_bundle(tiny_bundle.parent)))
    (model,) = facts.models
    assert (model.precision, model.default, model.verdict, model.dev_accuracy) == ("fp32", True, "passed", 1.0)
    assert facts.bytes == sum((tiny_bundle / name).stat().st_size for name in Bundle(tiny_bundle).manifest.files)
    assert facts.comparison == []  # this bundle was made by hand and knows no teacher
    assert "tiny" in facts._repr_html_()


def test_student_teacher_and_linear_model_are_compared(tiny_bundle: Path) -> None:
    known = {
        "recipe": {},
        "teacher": {"accuracy": {"dev": 0.9, "test": 0.95}},
        "linear": {"accuracy": {"dev": 0.7, "test": 0.75}},
        "report_split": "test",
    }
    manifest = Bundle(tiny_bundle).manifest.model_copy(update={"provenance": known})
    assert list(comparison(manifest)) == [
        "teacher: dev 90.00%, test 95.00%",
        "linear model on n-grams: dev 70.00%, test 75.00%",
        "student (fp32): test 100.00%, 125% of the gap between the two",
    ]
