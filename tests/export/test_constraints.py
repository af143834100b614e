"""What a student lacks, in words."""

from dataclasses import replace

from compress.recipe.sections import BudgetOptions
from export.constraints import DevResult, unmet_constraints
from export.facts import teacher_accuracy

GOOD = DevResult(accuracy=0.882, teacher=0.9, linear=0.8, texts=400, file_bytes=4_000_000, latency_ms=0.42)


def test_each_constraint_is_held_against_its_figure() -> None:
    assert unmet_constraints(BudgetOptions(), GOOD) == {}
    assert (
        unmet_constraints(BudgetOptions(min_teacher_share=0.98, max_bytes=4_000_000, target_latency_ms=0.42), GOOD)
        == {}
    )
    lacking = unmet_constraints(
        BudgetOptions(min_teacher_share=0.985, max_bytes=3_999_999, target_latency_ms=0.4), GOOD
    )
    assert lacking == {
        "min_teacher_share": "its 88.20% ± 1.61 on dev are 98.0% of the teacher's 90.00%, and budget.min_teacher_share is 0.985",
        "target_latency_ms": "it takes 0.42 ms, and budget.target_latency_ms is 0.4",
        "max_bytes": "its file has 4,000,000 bytes, and budget.max_bytes is 3,999,999",
    }


def test_a_latency_may_be_off_by_the_noise_of_a_measurement() -> None:
    target = BudgetOptions(target_latency_ms=0.4)
    assert unmet_constraints(target, GOOD, tolerance=1.1) == {}
    assert unmet_constraints(target, replace(GOOD, latency_ms=0.45), tolerance=1.1)
    assert unmet_constraints(target, replace(GOOD, latency_ms=None)) == {}


def test_clearly_below_the_linear_model_is_more_than_a_standard_error() -> None:
    assert not replace(GOOD, accuracy=0.79).below_linear  # the standard error is 2 points
    assert replace(GOOD, accuracy=0.77).below_linear


def test_a_student_of_one_domain_is_compared_with_its_teacher_on_that_domain() -> None:
    teacher = {"accuracy": {"dev": 0.9}, "domain_accuracy": {"dev": {"books": 0.8, "films": 0.95}}}
    assert teacher_accuracy({"recipe": {}, "teacher": teacher}) == {"dev": 0.9}
    assert teacher_accuracy({"recipe": {"domains": {"student": None}}, "teacher": teacher}) == {"dev": 0.9}
    assert teacher_accuracy({"recipe": {"domains": {"student": "books"}}, "teacher": teacher}) == {"dev": 0.8}
