"""Students of several families on a small task: which are made, what is shown of them, and which one is taken."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.__main__ import app
from bench.front.candidates import default_settings, make_candidates
from bench.front.choice import choose, mark_front, verdict
from bench.front.results import Student
from bench.tables import latency
from compress.pipeline.stages import stage_keys
from compress.pipeline.workspace import Workspace
from compress.recipe import load_recipe
from compress.recipe.sections import BudgetOptions, CnnOptions, SearchOptions, TransformerOptions
from compress.runtime.errors import UserError
from export.build import build_bundle
from export.bundle import Bundle
from export.constraints import DevResult
from tests.tiny_task import tiny_recipe

COPIED = "student.kind=transformer student.layers=1 compress.epochs=1"


def student(latency_ms: float, dev: float, *, reported: float | None = None, file_bytes: int = 1000) -> Student:
    """A student named after its latency; the teacher has 0.9 and the linear model 0.7 on a thousand dev texts."""
    result = DevResult(dev, teacher=0.9, linear=0.7, texts=1000, file_bytes=file_bytes, latency_ms=latency_ms)
    accuracy = dev if reported is None else reported
    return Student(f"s{latency_ms:g}", "cnn", (), "s", "int8", accuracy, result, latency_ms, file_bytes, 10, None, 1.0)


STUDENTS = [
    student(0.1, 0.80, file_bytes=1000),
    student(0.2, 0.86, file_bytes=4000),
    student(0.3, 0.85, reported=0.99, file_bytes=2000),
    student(0.9, 0.89, file_bytes=9000),
    student(0.05, 0.60),
]


def test_no_other_student_is_faster_and_more_accurate_than_one_on_the_front() -> None:
    students = [student(*at) for at in ((3, 0.9), (1, 0.7), (2, 0.7), (2.5, 0.85), (2.5, 0.8), (4, 0.89))]
    marked = mark_front(students)
    assert [(s.latency_ms, s.accuracy) for s in marked if s.on_front] == [(1, 0.7), (2.5, 0.85), (3, 0.9)]
    assert [s.latency_ms for s in marked] == [1, 2, 2.5, 2.5, 3, 4]


@pytest.mark.parametrize(
    ("constraints", "taken"),
    [
        ({"min_teacher_share": 0.94}, "s0.2"),  # the fastest that is so good, though a slower one is better
        ({"target_latency_ms": 0.35}, "s0.2"),  # the best on dev that is so fast, though another one is better on test
        ({"max_bytes": 3000}, "s0.3"),
        ({"min_teacher_share": 0.94, "max_bytes": 3000}, "s0.3"),
        ({"min_teacher_share": 0.5}, "s0.1"),  # s0.05 is clearly below the linear model
        ({"min_teacher_share": 0.99}, None),
        ({"min_teacher_share": 0.98, "target_latency_ms": 0.5}, None),
        ({}, None),
    ],
)
def test_the_cheapest_student_that_meets_the_constraints_is_taken(
    constraints: dict[str, float], taken: str | None
) -> None:
    found = choose(STUDENTS, BudgetOptions(**constraints))  # type: ignore[arg-type]
    assert (found.title if found else None) == taken


def test_what_is_missing_is_said_and_what_would_help() -> None:
    short = verdict(STUDENTS, BudgetOptions(min_teacher_share=0.98, target_latency_ms=0.5))
    assert "No student meets budget.target_latency_ms = 0.5, budget.min_teacher_share = 0.98." in short
    assert "The best within the limits: s0.2, 86.00% on dev, 95.6% of the teacher's 90.00%, 0.2 ms" in short
    assert "transfer.texts" in short
    assert "A larger budget would do too: s0.9" in short
    slow = verdict(STUDENTS, BudgetOptions(target_latency_ms=0.01))
    assert "None keeps to the limits. The fastest: s0.1" in slow
    assert "student.width" in slow
    assert "transfer.texts" not in slow
    assert "clearly below the linear model" in verdict(STUDENTS[-1:], BudgetOptions(min_teacher_share=0.5))
    assert "no constraints: set budget.min_teacher_share" in verdict(STUDENTS, BudgetOptions())
    assert verdict(STUDENTS, BudgetOptions(max_bytes=3000)).startswith("Taken: s0.3, 85.00% on dev")


def test_the_default_students_are_of_all_families(tmp_path: Path) -> None:
    file = tiny_recipe(tmp_path)
    recipe = load_recipe(file)
    made = make_candidates(file, [], default_settings(recipe, teacher_layers=3))
    assert made[0].recipe == recipe
    assert {c.family for c in made} == {"cnn", "transformer", "bilstm"}
    layers = [c.recipe.student.layers for c in made if isinstance(c.recipe.student, TransformerOptions)]
    assert layers == [1, 2]  # of a teacher with three
    assert any(isinstance(c.recipe.student, CnnOptions) and c.recipe.student.members == 3 for c in made)
    assert len({c.title for c in made}) == len({c.folder for c in made}) == len(made)
    keys = stage_keys(recipe)
    for candidate in made:
        assert all(stage_keys(candidate.recipe)[stage] == keys[stage] for stage in ("teacher", "linear", "augmented"))
    copied = next(c for c in made if c.family == "transformer").recipe
    assert (copied.compress.learning_rate, copied.objective.method) == (1e-4, "logits")  # not those of the cnn
    wide = load_recipe(file).model_copy(update={"search": SearchOptions(space="wide", max_cost=0.2)})
    of_costs = [text for text in default_settings(wide, 3) if "max_cost" in text]
    assert of_costs == ["search.max_cost=0.06", "search.max_cost=0.1", "search.max_cost=0.4"]
    searched_by_hand = load_recipe(file).model_copy(update={"student": CnnOptions(architecture="residual")})
    assert "student.kind=cnn student.architecture=searched" in default_settings(searched_by_hand, 3)


def test_a_wrong_candidate_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    file = tiny_recipe(tmp_path)
    for text, message in {
        "student.wdith=3": r"--candidate 'student\.wdith=3': .*unknown key",
        "teacher.epochs=1": "compared on one task, with one teacher",
        "student.kind='cnn": "a quotation mark is not closed",
        "members": "--candidate 'members': members: write it as",
    }.items():
        with pytest.raises(UserError, match=message):
            make_candidates(file, [], [text])
    twice = make_candidates(file, [], ["", "student.width=16", "student.dropout=0.3", "student.dropout=0.3 "])
    assert [c.settings for c in twice] == [(), ("student.dropout=0.3",)]
    assert len({c.title for c in twice}) == 2


@pytest.mark.slow
def test_a_front_trains_what_is_missing_and_leaves_the_student_that_the_budget_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(latency, "SECONDS", 0.01)
    recipe, artifacts = tiny_recipe(tmp_path, rows=200), tmp_path / "artifacts"
    settings = ["bench.texts=10", "search.trials=0", "compress.epochs=1", "budget.min_teacher_share=0.4"]
    wanted = ["", "search.max_cost=0", "search.max_cost=0.001", COPIED]
    arguments = ["front", str(recipe), "--artifacts", str(artifacts)]
    arguments += [part for text in settings for part in ("--set", text)]
    arguments += [part for text in wanted for part in ("--candidate", text)]

    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.exception
    assert [done.stderr.count(f"▸ {stage}\n") for stage in ("teacher", "linear", "search", "student")] == [1, 1, 1, 3]
    assert "the same student as" in done.stderr
    directory, workspace = artifacts / "tiny" / "front", Workspace(artifacts / "tiny")
    found = json.loads((directory / "front.json").read_text())
    students = found["students"]
    assert [len(students), len(found["teachers"])] == [3, 2]
    assert {s["family"] for s in students} == {"cnn", "transformer"}
    assert found["teachers"][1]["latency_ms"] > 0
    for s in students:
        manifest = Bundle(directory / s["folder"] / "bundle").manifest
        assert manifest.models[s["precision"]].dev_accuracy == s["accuracy"] == s["dev"]["accuracy"]
    best = next(s for s in students if s["title"] == found["taken"])
    text = (directory / "front.md").read_text()
    assert "Taken: " in text
    assert "●" in text
    assert text.count("\n| linear model on n-grams ") == 1
    assert (directory / "front.svg").stat().st_size > 1000
    taken = load_recipe(directory / "recipe.toml")
    assert workspace.is_current("student", stage_keys(taken)["student"])
    own = build_bundle(taken, workspace, "cpu").manifest
    assert own.models[own.default].dev_accuracy == best["dev"]["accuracy"]

    again = CliRunner().invoke(app, [*arguments, "--set", "budget.max_bytes=10"])
    assert "▸" not in again.stderr  # nothing is made again
    assert again.exit_code == 1, again.exception
    assert "No student meets budget.max_bytes = 10, budget.min_teacher_share = 0.4" in again.stderr
    assert Bundle(workspace.root / "bundle").manifest == own  # the earlier one stays


def test_the_recipe_s_own_student_is_not_lost_when_another_one_is_taken(tmp_path: Path) -> None:
    own, place = Workspace(tmp_path / "own"), Workspace(tmp_path / "own/front/recipe")
    own.run("student", "key", lambda directory, _: (directory / "weights").write_text("own") and None)
    own.move_result("student", place)
    assert own.is_current("student", "key")
    assert place.is_current("student", "key")
    other = Workspace(tmp_path / "own/front/other")
    other.run("student", "other", lambda directory, _: (directory / "weights").write_text("other") and None)
    own.link_result("student", other)
    assert own.is_current("student", "other")
    assert place.is_current("student", "key")
    own.run("student", "third", lambda directory, _: (directory / "weights").write_text("third") and None)
    assert other.is_current("student", "other")  # a new result replaces the link and not what it leads to
    own.run("student", "fourth", lambda directory, _: (directory / "weights").write_text("fourth") and None)
    assert own.is_current("student", "fourth")
