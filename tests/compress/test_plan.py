"""The plan of a run: what will be made, and how long that takes by counted steps and timed speeds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from compress.__main__ import app
from compress.data.corpus import load_corpus
from compress.pipeline.plan import BANK, BANK_TOKENS, FORECASTS, INT8, MADE, TIMED, Plan, Work, duration, make_plan
from compress.pipeline.run import compress
from compress.pipeline.speeds import Speeds
from compress.pipeline.stage import TaskTexts
from compress.pipeline.stages import STAGES
from compress.pipeline.workspace import Workspace
from compress.recipe import Recipe, load_recipe
from tests.tiny_task import SEARCH, sentences, tiny_recipe

SPEEDS = SimpleNamespace(teach=1.0, judge=0.01, vocabulary=7.0, learn=0.1, search=0.5, tokens=BANK_TOKENS)


def work(recipe: Recipe) -> Work:
    """400 training texts and 100 dev texts."""
    return Work(recipe, load_corpus(recipe.target, recipe.source), SPEEDS)  # type: ignore[arg-type]


def test_every_stage_has_a_forecast() -> None:
    assert list(FORECASTS) == [stage.name for stage in STAGES]


def test_forecasts_are_steps_times_their_speed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    file = tiny_recipe(tmp_path)
    plain = work(load_recipe(file))
    # 9 epochs of 400 / 32 steps; dev after each, and at the start and the end; the frozen states of the training texts
    assert plain.teacher() == pytest.approx(9 * 12.5 + (11 * 100 + 400) * 0.01)
    assert plain.teacher_outputs() == pytest.approx(3 * 400 * 0.01 + 7.0)  # two spans of each text; each token alone
    assert plain.search() == pytest.approx(320 / 16 * 0.5)
    assert plain.trials() == pytest.approx(5 * (10 + 80 / 16 / 3) * 0.1)
    assert plain.student() == pytest.approx((4 * 1200 / 16 + 4 * 100 / 16 / 3) * 0.1)
    settings = ["transfer.texts=5000", "transfer.joined=1000", "transfer.share=0.5", "student.members=2"]
    more = work(load_recipe(file, settings))
    assert more.transfer_outputs() == pytest.approx(6000 * 0.01 / INT8)
    assert more.transfer_set() == pytest.approx(BANK + 1000 * MADE)
    long = work(load_recipe(file, settings))
    long.speeds = SimpleNamespace(**vars(SPEEDS) | {"tokens": 10 * BANK_TOKENS})  # type: ignore[assignment]
    assert long.transfer_outputs() == pytest.approx((500 + 1000) * 0.01 / INT8)  # those of the bank are a tenth as long
    assert more.trials() == pytest.approx(plain.trials() / 2)
    assert more.student() == pytest.approx((4 * 2400 / 16 + 4 * 100 / 16 / 3) * 0.1)
    few = work(load_recipe(file, ["transfer.joined=100", "transfer.share=0.5"]))  # no text is taken twice in an epoch
    assert few.student() == pytest.approx((4 * 1300 / 16 + 4 * 100 / 16 / 3) * 0.1)
    rounds = work(load_recipe(file, ["search.rounds=2"]))  # three of the five again, for twice as long
    assert rounds.trials() == pytest.approx((5 * (10 + 80 / 16 / 3) + 3 * (20 + 80 / 16 / 3)) * 0.1)
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace(SEARCH, '[search]\nspace = "wide"\ntrials = 5\ntrial_steps = 10\n'), encoding="utf-8")
    wide = work(load_recipe(file, ["student.members=2"]))  # a trial is of all members, and each student is timed
    assert wide.trials() == pytest.approx(plain.trials() + 5 * TIMED)
    file.write_text(text.replace("epochs = 4\n", "steps = 700\n"), encoding="utf-8")
    by_steps = work(load_recipe(file, ["teacher.fine_tuned=true"]))
    assert by_steps.student() == pytest.approx((700 + 10 * 100 / 16 / 3) * 0.1)  # evaluated ten times
    assert by_steps.teacher() == pytest.approx(100 * 0.01)


def test_speeds_are_timed_for_every_kind_of_student(tmp_path: Path) -> None:
    file = tiny_recipe(tmp_path)
    text = file.read_text(encoding="utf-8")
    other = text.split("[student]")[0] + "[compress]\npreset = "
    for name, recipe in (
        ("cnn", text),
        ("copied", f'{other}"tinybert"\n[student]\nlayers = 2\n'),
        ("bilstm", f'{other}"bilstm"'),
    ):
        file.write_text(recipe, encoding="utf-8")
        loaded = load_recipe(file)
        speeds = Speeds(loaded, load_corpus(loaded.target, loaded.source))
        times = [
            speeds.teach,
            speeds.judge,
            speeds.learn,
            *([speeds.search, speeds.vocabulary] if name == "cnn" else []),
        ]
        assert all(0 < seconds < 60 for seconds in times), name  # of one step of a tiny model, on any machine


def test_a_plan_has_what_is_not_up_to_date_and_says_afterwards_what_it_took(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ['student.architecture="residual"', "teacher.epochs=1", "compress.epochs=1"]
    file = tiny_recipe(tmp_path, rows=120)
    text = file.read_text(encoding="utf-8").replace(SEARCH, "")
    file.write_text(text, encoding="utf-8")
    recipe, workspace = load_recipe(file, settings), Workspace(tmp_path / "artifacts")
    names = ["teacher", "linear", "augmented", "teacher_outputs", "architecture", "student"]
    assert list(make_plan(recipe, workspace, TaskTexts(recipe)).forecast) == names
    first = compress(recipe, workspace)
    assert "plan:" not in capsys.readouterr().err
    assert list(make_plan(recipe, workspace, TaskTexts(recipe)).lines()) == [
        "plan: nothing to make, all 6 stages are up to date"
    ]
    assert list(make_plan(recipe, workspace, TaskTexts(recipe), force=True).forecast) == names
    longer = load_recipe(file, [*settings[:2], "compress.epochs=2"])
    before = (first / "model.safetensors").read_bytes()
    compress(longer, workspace, plan=True)
    printed = capsys.readouterr().err
    assert "plan: 1 of 6 stages to make, " in printed
    assert "forecast     taken" in printed
    # The timing of steps changes no weights.
    compress(recipe, workspace, plan=True)
    assert (first / "model.safetensors").read_bytes() == before


def test_the_command_prints_a_plan_and_makes_nothing(tmp_path: Path) -> None:
    file = tiny_recipe(tmp_path, rows=len(sentences(60)))
    done = CliRunner().invoke(app, ["plan", str(file), "--artifacts", str(tmp_path / "artifacts")])
    assert done.exit_code == 0, done.output
    assert "plan: 8 of 8 stages to make, " in done.stdout
    assert not (tmp_path / "artifacts").exists()


def test_a_time_that_is_not_known_is_said_to_be_so() -> None:
    assert list(Plan({"language_model": None, "student": 600.0}, 7).lines()) == [
        "plan: 2 of 7 stages to make, at least 10 min on this machine",
        "  language_model       unknown",
        "  student               10 min",
    ]
    *_, last = Plan({"student": 600.0}, 7, busy=0.97).lines()
    assert last == "  other programs use 97% of the CPUs now; without them it takes less time than this"
    assert [duration(seconds) for seconds in (0.2, 89, 91)] == ["0 s", "89 s", "2 min"]
