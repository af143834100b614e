"""What is said about a report: shares, speed-ups, conditions that fail a command, and differences of two reports."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.__main__ import app
from bench.conditions import FIGURES, Condition
from bench.diff import diff
from bench.figures import share_of_gap, speed_up
from bench.markdown import to_markdown
from bench.report import Report, read_report, write_report
from compress.runtime.errors import UserError
from tests.bench.synthetic import answers, engine, four, report


def test_the_student_is_half_way_from_the_linear_model_to_the_teacher_and_two_hundred_times_faster():
    made = report(*four())
    student = made.engine("student-int8")
    share, faster = share_of_gap(made, student), speed_up(made, student, "128 tokens")
    assert share.value == pytest.approx(0.5)
    assert 0.3 < share.low < 0.5 < share.high < 0.7
    assert faster.value == pytest.approx(200, rel=0.01)
    assert 1.002 < faster.high / faster.low < 1.03
    row = next(line for line in to_markdown(made).splitlines() if line.startswith("| student-int8 |"))
    assert "84.00 [81." in row
    assert "0.50 [0.3" in row
    assert "201× [200 to 202]" in row
    assert row.endswith("tokenisation, network |")


def test_without_a_teacher_a_linear_model_or_a_gap_there_is_no_share():
    bert, teacher, student, linear = four()
    for made in (report(bert, teacher, student), report(bert, student, linear)):
        assert share_of_gap(made, student) is None
    weak = engine("teacher-torch", 20, answers(800))
    assert share_of_gap(report(bert, weak, student, linear), student) is None


def test_every_figure_of_a_condition_is_as_computed_by_hand():
    made = report(*four(student_ms=0.5))
    wanted = {
        "accuracy": 0.84,
        "teacher_share": 0.84 / 0.88,
        "gap_share": 0.5,
        "speedup": 200,
        "p50_ms": 0.5,
        "texts_per_s": 20_000,
        "file_mb": 5,
    }
    assert {name: figure.of(made) for name, figure in FIGURES.items()} == {
        name: pytest.approx(value, rel=0.01) for name, value in wanted.items()
    }


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("speedup<100", False),
        ("speedup < 1e3", True),
        ("teacher_share<0.97", True),
        ("gap_share<=0.6", True),
        ("p50_ms>.4", True),
        ("accuracy>=0.9", False),
    ],
)
def test_a_condition_is_met_or_not(text, met):
    said = Condition.parse(text).met(report(*four()))
    assert (said is not None) is met
    if said:
        assert str(Condition.parse(text)) in said


@pytest.mark.parametrize(
    "text", ["speed<100", "speedup=100", "speedup<fast", "__import__('os')<1", "speedup<1 or 2", ""]
)
def test_what_is_no_condition_is_refused_and_never_run(text):
    with pytest.raises(UserError, match="--fail-if") as caught:
        Condition.parse(text)
    if text == "speed<100":
        assert all(name in str(caught.value) for name in FIGURES)


def test_a_condition_on_what_was_not_measured_does_not_pass():
    bert, teacher, student, _ = four()
    assert "was not measured" in Condition.parse("gap_share<0.1").met(report(bert, teacher, student))
    with pytest.raises(UserError, match="needs linear, which --only"):
        Condition.parse("gap_share<0.1").check(["student-int8", "teacher-torch"], "student-int8")


def verdicts(old: Report, new: Report, **options: float) -> dict[tuple[str, str], str]:
    return {(d.engine, d.figure): d.verdict for d in diff(old, new, **options) if d.verdict != "same"}


def test_two_runs_of_one_program_do_not_differ():
    assert verdicts(report(*four(seed=1)), report(*four(seed=2))) == {}


def test_a_slower_and_less_accurate_student_is_found_and_nothing_else():
    found = verdicts(report(*four(seed=1)), report(*four(seed=2, student_ms=0.7, student_right=820)))
    assert found == {
        ("student-int8", figure): "worse"
        for figure in (
            "accuracy, %",
            *("p50 ms, 128 tokens", "texts/s, 128 tokens"),
            *("speed-up (p50), 128 tokens", "speed-up (texts/s), 128 tokens"),
        )
    }
    back = verdicts(report(*four(seed=2, student_ms=0.7, student_right=820)), report(*four(seed=1)))
    assert set(back.values()) == {"better"}
    assert back.keys() == found.keys()


def test_a_difference_within_the_tolerance_or_by_chance_is_none():
    old, new = report(*four(seed=1)), report(*four(seed=2, student_ms=0.53, student_right=839))
    assert verdicts(old, new) == {}
    assert ("student-int8", "p50 ms, 128 tokens") in verdicts(old, new, tolerance=0.01)
    noisy = [report(engine("student-int8", ms, answers(840), seed=s, noise=0.8)) for s, ms in ((1, 1.0), (2, 1.15))]
    assert verdicts(*noisy) == {}  # the samples are too different from each other to tell


def test_a_faster_machine_makes_no_program_faster():
    old = report(*four(seed=1))
    twice = [engine(e.spec.name, e.cells[0].summary.total_ms["p50"] / 2, None, seed=3) for e in old.engines]
    found = diff(old, report(*twice, cpu="another CPU"))
    assert {d.counts for d in found if d.figure.startswith("p50")} == {False}
    assert all(d.verdict == "same" for d in found if d.counts)


def test_reports_that_cannot_be_compared_are_refused(tmp_path):
    with pytest.raises(UserError, match="different texts"):
        diff(report(*four()), report(*four(), texts="others"))
    with pytest.raises(UserError, match="no engine in common"):
        diff(report(*four()[:1]), report(*four()[1:]))
    other = report(*four())
    for each in other.engines:
        each.accuracy = None
        each.cells = [cell.model_copy(update={"input": "32 tokens"}) for cell in each.cells]
    with pytest.raises(UserError, match="no figure in common"):
        diff(report(*four()), other)
    with pytest.raises(UserError, match="cannot be read"):
        read_report(tmp_path / "missing.json")
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(UserError, match=r"not a report of `pocketbert bench`"):
        read_report(tmp_path)


def test_diff_has_an_exit_status_for_ci(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    for name, made in {"old": four(seed=1), "same": four(seed=2), "slow": four(seed=3, student_ms=2)}.items():
        write_report(report(*made), tmp_path / name)
    old = tmp_path / "old"
    same = CliRunner().invoke(app, ["diff", str(old), str(tmp_path / "same" / "report.json")])
    assert same.exit_code == 0, same.output
    assert "student-int8" in same.stdout
    slow = CliRunner().invoke(app, ["diff", str(old), str(tmp_path / "slow")])
    assert slow.exit_code == 1
    assert "student-int8: p50 ms, 128 tokens is worse" in slow.stderr
    assert "teacher-torch: " not in slow.stderr
    write_report(report(*four(seed=2)).model_copy(update={"partial": "half of it"}), tmp_path / "partial")
    partial = CliRunner().invoke(app, ["diff", str(old), str(tmp_path / "partial")])
    assert partial.exit_code == 1
    assert "a partial report passes no check" in partial.stderr


def test_a_report_from_before_rounds_and_answers_can_be_shown_and_compared(tmp_path):
    kept = Path(__file__).parents[2] / "docs/h200/report.json"
    made = read_report(kept)
    assert "speed and accuracy" in to_markdown(made)
    assert verdicts(made, made) == {}
    write_report(made, tmp_path)
    assert json.loads((tmp_path / "report.json").read_text())["engines"][0]["cells"][0]["rounds"] == []
