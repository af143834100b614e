"""The choice of the threshold on curves that can be worked out by hand, and the teacher in a bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compress.recipe import load_recipe
from compress.recipe.sections import CascadeOptions
from compress.runtime.errors import UserError
from export.cascade import choose, dev_curve, thinned, unmet_accuracy
from export.manifest import CurvePoint

SCORES = np.array([0.9, 0.5, 0.8, 0.6, 0.7], np.float32)  # in order: texts 1, 3, 4, 2, 0
STUDENT = np.array([True, False, True, False, True])
TEACHER = np.array([True, True, True, True, False])


def curve() -> list[CurvePoint]:
    return dev_curve(SCORES, STUDENT, TEACHER, student_ms=1.0, teacher_ms=10.0)


def points(*accuracies: float) -> list[CurvePoint]:
    """A curve of these accuracies at equal steps of the share, from 0 to 1."""
    last = len(accuracies) - 1
    return [CurvePoint(share=i / last, threshold=i / last, accuracy=a, ms=1.0) for i, a in enumerate(accuracies)]


def test_the_least_sure_texts_go_first() -> None:
    assert [point.share for point in curve()] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    # The student has 3 of 5. The teacher puts texts 1 and 3 right, and text 4 wrong.
    assert [point.accuracy for point in curve()] == pytest.approx([0.6, 0.8, 1.0, 0.8, 0.8, 0.8])
    assert [point.ms for point in curve()] == pytest.approx([1, 3, 5, 7, 9, 11])


def test_a_threshold_passes_on_the_share_that_its_point_names() -> None:
    for point in curve():
        assert (point.threshold >= SCORES).mean() == pytest.approx(point.share)


def test_texts_with_equal_scores_go_together() -> None:
    found = dev_curve(np.array([0.5, 0.5, 0.9]), STUDENT[:3], TEACHER[:3], student_ms=1, teacher_ms=1)
    assert [point.share for point in found] == pytest.approx([0, 2 / 3, 1])


def test_the_smallest_share_that_is_accurate_enough_is_chosen() -> None:
    found = points(0.80, 0.85, 0.89, 0.895, 0.90)
    assert choose(found, CascadeOptions(within_points=0.0)).share == 1
    assert choose(found, CascadeOptions(within_points=1.0)).share == 0.5
    assert choose(found, CascadeOptions(within_points=50)).share == 0


def test_a_lucky_point_before_a_worse_one_is_not_chosen() -> None:
    assert choose(points(0.80, 0.90, 0.85, 0.90, 0.90), CascadeOptions(within_points=0.5)).share == 0.75


def test_a_student_that_is_as_good_as_the_teacher_passes_nothing_on() -> None:
    assert choose(points(0.9, 0.92, 0.9), CascadeOptions(within_points=0.0)).share == 0


def test_a_largest_share_alone_is_used_up() -> None:
    assert choose(points(0.8, 0.9, 0.9, 0.9, 0.9), CascadeOptions(max_share=0.6)).share == 0.5


def test_a_largest_share_bounds_the_accuracy_and_that_is_said() -> None:
    found, options = points(0.80, 0.85, 0.89, 0.90, 0.90), CascadeOptions(within_points=0.5, max_share=0.5)
    chosen = choose(found, options)
    assert chosen.share == 0.5
    assert "takes 75% of the texts; with cascade.max_share = 0.5, 1.00 points are missing" in str(
        unmet_accuracy(found, chosen, options)
    )
    easy = CascadeOptions(within_points=1.0, max_share=0.5)
    assert unmet_accuracy(found, choose(found, easy), easy) is None


def test_the_stored_curve_keeps_both_ends_and_about_a_hundred_points() -> None:
    rng = np.random.default_rng(0)
    found = dev_curve(rng.random(5000), rng.random(5000) < 0.8, rng.random(5000) < 0.9, student_ms=1, teacher_ms=9)
    kept = thinned(found)
    assert [point.share for point in kept] == pytest.approx([i / 100 for i in range(101)])
    assert (kept[0], kept[-1]) == (found[0], found[-1])


def test_a_cascade_without_a_constraint_is_refused_and_one_of_several_students_is_not(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("text\tlabel\tdomain\n", encoding="utf-8")
    recipe = tmp_path / "task.toml"
    start = '[data]\ntrain = "t.tsv"\ndomain = "domain"\n'
    recipe.write_text(f"{start}[cascade]\n", encoding="utf-8")
    with pytest.raises(UserError, match="cascade: set within_points or max_share"):
        load_recipe(recipe)
    recipe.write_text(f'{start}[domains]\nstudents = "per-domain"\n[cascade]\nwithin_points = 1\n', encoding="utf-8")
    assert load_recipe(recipe).cascade.wanted
