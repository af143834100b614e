"""A killed run, started again, makes the same result to the byte as an undisturbed one. It dies at a call, not by a clock."""

from __future__ import annotations

import json
import math
import os
import pkgutil
import shutil
import signal
import string
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from compress.data.files import sha256_file
from compress.pipeline.run import compress
from compress.pipeline.stages import stage_keys, stages_of
from compress.pipeline.workspace import Workspace
from compress.recipe import Recipe, load_recipe
from tests.tiny_task import ROOT, KilledError, at_call, killed_at, sentences, tiny_recipe, write_tsv

SECONDS = "compress.training.loop.CHECKPOINT_SECONDS"
STEP = "compress.training.progress.TrainingProgress.advanced"  # called after each training step, before its checkpoint
ROWS = 160
SETTINGS = (
    *("teacher.epochs=3", "teacher.batch_size=8"),
    *("augmentation.method=spans", "augmentation.copies=1"),
    *("search.epochs=2", "search.architecture_every=2"),
    "search.cost=computed",  # not measured: the same on every machine
    "compress.epochs=3",
)
# Training steps of each stage: teacher 3 epochs of 20, search 2 of 8, trials 5 of 10 steps, student 3 epochs of 20.
STEPS = {"teacher": 60, "search": 16, "trials": 50, "student": 60}
# The selector decides on 160 samples, in 2 passes of 5 episodes of 4 steps.
SELECTED = (
    "augmentation.method=l2a",
    "augmentation.epochs=1",
    *("augmentation.selector.pool=32", "augmentation.selector.dev_sample=32"),
    *("search.epochs=1", "search.trials=0"),
    "objective.method=logits",
    "compress.epochs=2",
)


@dataclass(frozen=True)
class Made:
    """A finished workspace of an undisturbed run."""

    file: Path  # of the recipe
    settings: tuple[str, ...]  # that override it
    recipe: Recipe
    root: Path
    steps: dict[str, int]  # training steps of each stage that trains by `fit`

    def without(self, stage: str, root: Path) -> Workspace:
        """A copy of the workspace in which the result of a stage is missing."""
        shutil.copytree(self.root, root)
        shutil.rmtree(root / stage)
        (root / ".stages" / f"{stage}.json").unlink()
        return Workspace(root)


@dataclass(frozen=True)
class Kill:
    """Where a run dies, and what is lost then. A checkpoint follows each training step, unless `checkpoint` says otherwise."""

    function: str
    call: int = 1  # the one that dies
    checkpoint: int | None = None  # the last training step with a checkpoint
    repeated: int = 0  # training steps that the second run has to take again


@contextmanager
def counted_steps() -> Iterator[list[int]]:
    """Collects an entry for each training step that is taken meanwhile."""
    taken, advanced = [], pkgutil.resolve_name(STEP)

    def counted(progress: object, step: int, loss: float) -> None:
        taken.append(step)
        advanced(progress, step, loss)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(STEP, counted)
        yield taken


def card(result: Path) -> dict[str, Any]:
    return json.loads((result / "card.json").read_text())


def make(file: Path, settings: Sequence[str], root: Path) -> Made:
    """Run all stages of a recipe, one by one."""
    recipe, steps = load_recipe(file, settings), {}
    for stage in stages_of(recipe):
        with counted_steps() as taken:
            compress(recipe, Workspace(root), until=stage.name)
        if taken:
            steps[stage.name] = len(taken)
    return Made(file, tuple(settings), recipe, root, steps)


def varied(made: Made, directory: Path, *settings: str) -> Made:
    """The same with other settings; what these do not change is taken over."""
    root = shutil.copytree(made.root, directory / "tiny")
    return make(made.file, (*made.settings, *settings), root)


def run_killed(recipe: Recipe, workspace: Workspace, stage: str, kill: Kill) -> int:
    """Run up to a stage, and die; returns the number of training steps taken."""
    with counted_steps() as taken, pytest.MonkeyPatch.context() as patch:
        patch.setattr(SECONDS, -1.0)
        if kill.checkpoint is not None:
            last = at_call(kill.checkpoint + 1, pkgutil.resolve_name(STEP), lambda: patch.setattr(SECONDS, math.inf))
            patch.setattr(STEP, last)
        patch.setattr(kill.function, killed_at(kill.call, pkgutil.resolve_name(kill.function)))
        with pytest.raises(KilledError):
            compress(recipe, workspace, until=stage)
    assert not workspace.is_current(stage, stage_keys(recipe)[stage])
    return len(taken)


def killed_and_resumed(whole: Made, stage: str, kill: Kill, root: Path) -> Path:
    """Make a stage's result in a copy of the workspace: die, and run the same again, which must not begin at the start."""
    workspace = whole.without(stage, root)
    first = run_killed(whole.recipe, workspace, stage, kill)
    with counted_steps() as second:
        result = compress(whole.recipe, workspace, until=stage)
    assert first + len(second) == whole.steps[stage] + kill.repeated
    return result


def files(directory: Path) -> dict[str, Any]:
    """The SHA-256 of each file, and the card without the time that the frozen encoder took."""
    paths = (path for path in sorted(directory.rglob("*")) if path.is_file())
    found: dict[str, Any] = {str(path.relative_to(directory)): sha256_file(path) for path in paths}
    if "card.json" in found:
        found["card.json"] = {**card(directory), "frozen": {**(card(directory).get("frozen") or {}), "seconds": None}}
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Teacher, search, trials and student without a disturbance."""
    directory = tmp_path_factory.mktemp("whole")
    made = make(tiny_recipe(directory, rows=ROWS), SETTINGS, directory / "tiny")
    assert made.steps == STEPS
    return made


@pytest.fixture(scope="module")
def rounded(whole: Made, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The same with a second phase of the student, of 20 steps, with INT8's rounding."""
    return varied(whole, tmp_path_factory.mktemp("rounded"), "compress.quantization_epochs=1")


@pytest.fixture(scope="module")
def selected(whole: Made, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A student that learns what L2A's selector keeps."""
    return varied(whole, tmp_path_factory.mktemp("selected"), *SELECTED)


# A result has the weights of its best epoch: what a kill in the first one spoils shows whichever that is.
@pytest.mark.parametrize(
    ("stage", "kill"),
    [
        # Dropout, order of the batches, AdamW's moments and the warm-up go on.
        pytest.param("teacher", Kill(STEP, 10), id="teacher, in an epoch"),
        # The same of a student with BatchNorm, and its moving average, which is what is kept.
        pytest.param("student", Kill(STEP, 30), id="student, in an epoch"),
        # The last checkpoint is more than an epoch old: the weights of the best epoch so far existed in memory only.
        pytest.param("student", Kill(STEP, 45, checkpoint=15, repeated=29), id="student, long after the checkpoint"),
        # All steps of the epoch are in the checkpoint, its metrics are not.
        pytest.param("student", Kill("compress.distil.student.dev_metrics", 2), id="student, at the evaluation"),
        # The result stands in its place, but nothing says yet what it was made from.
        pytest.param("student", Kill("compress.pipeline.workspace.write_json"), id="student, before the record"),
        # The loss of the second architecture step in epoch 2: the weight step of the same training step is lost.
        pytest.param("search", Kill("compress.search.adabert.efficiency_loss", 7), id="search, between its optimisers"),
        # Gumbel draws, their temperature and both orders of batches go on from an odd step.
        pytest.param("search", Kill(STEP, 14, checkpoint=5, repeated=8), id="search, long after the checkpoint"),
        # Trials 1 and 2 are read back, the third goes on in its middle.
        pytest.param("trials", Kill(STEP, 25), id="trials, in a trial"),
        # The third is trained, but not written down.
        pytest.param("trials", Kill("compress.search.trials.write_trials", 3), id="trials, after a trial"),
    ],
)
def test_a_killed_stage_ends_as_an_undisturbed_one(whole: Made, stage: str, kill: Kill, tmp_path: Path) -> None:
    result = killed_and_resumed(whole, stage, kill, tmp_path / "tiny")
    assert files(result) == files(whole.root / stage)


@pytest.mark.parametrize(
    "kill",
    [
        # The first phase is read back, and the weights under the rounding go on unrounded.
        Kill(STEP, 70),
        # The first phase is done, the second has no checkpoint yet.
        Kill("compress.distil.student.rounding"),
    ],
)
def test_a_rounded_phase_ends_as_an_undisturbed_one(rounded: Made, kill: Kill, tmp_path: Path) -> None:
    assert rounded.steps["student"] == 80
    result = killed_and_resumed(rounded, "student", kill, tmp_path / "tiny")
    assert files(result) == files(rounded.root / "student")


@pytest.mark.parametrize(
    "kill",
    [
        # What the episode keeps, the policy and the baseline go on.
        pytest.param(Kill(STEP, 10), id="in an episode"),
        # The selector's own steps are taken again, too.
        pytest.param(Kill(STEP, 31, checkpoint=14, repeated=16), id="long after the checkpoint"),
        # Save 15 is that of episode 3's end: the selector has learned and decided, which is lost.
        pytest.param(Kill("compress.training.loop.replace_directory", 15), id="at the end of an episode"),
    ],
)
def test_a_selector_ends_as_an_undisturbed_one(selected: Made, kill: Kill, tmp_path: Path) -> None:
    assert selected.steps["student"] == 40
    result = killed_and_resumed(selected, "student", kill, tmp_path / "tiny")
    assert files(result) == files(selected.root / "student")


# In the order of what happens at a save.
@pytest.mark.parametrize(
    ("function", "unfinished"),
    [
        # The best weights are written, and the file not yet renamed.
        ("os.replace", {"best.tmp"}),
        # The best weights are in place, the checkpoint does not know of that epoch.
        ("accelerate.Accelerator.save_state", set()),
        # The new checkpoint is written beside the old one.
        ("compress.training.loop.replace_directory", {"checkpoint.tmp"}),
        # Between the two renames of `replace_directory` there is no checkpoint under its name.
        ("os.rename", {"checkpoint.tmp", ".checkpoint.old"}),
    ],
)
def test_a_kill_while_a_checkpoint_is_written(whole: Made, function: str, unfinished: set[str], tmp_path: Path) -> None:
    """At the save after the student's best epoch: its weights are those of the result."""
    scores = [epoch["metric"] for epoch in card(whole.root / "student")["history"]]
    epochs = scores.index(max(scores)) + 1
    saves = epochs * (20 + 1)  # one follows each step, and each epoch
    better = sum(score > max(scores[:i], default=-1) for i, score in enumerate(scores[:epochs]))
    # In the first save, there is no old checkpoint to rename.
    calls = {"os.replace": better, "os.rename": 2 * saves - 1}
    workspace = whole.without("student", tmp_path / "tiny")
    assert run_killed(whole.recipe, workspace, "student", Kill(function, calls.get(function, saves))) == 20 * epochs
    scratch = workspace.root / ".work" / "student" / "phase-0"
    assert {path.name for path in scratch.iterdir() if path.suffix in (".tmp", ".old")} == unfinished
    with counted_steps() as second:
        result = compress(whole.recipe, workspace)
    assert len(second) == STEPS["student"] - 20 * epochs
    assert files(result) == files(whole.root / "student")


def test_the_best_weights_of_an_epoch_before_the_kill_are_kept(tmp_path: Path) -> None:
    """A teacher that learns next to nothing has the same dev accuracy after each epoch: the first one is the best."""
    recipe = load_recipe(tiny_recipe(tmp_path, rows=ROWS), (*SETTINGS, "teacher.learning_rate=1e-6"))
    fresh = compress(recipe, Workspace(tmp_path / "fresh"), until="teacher")
    assert len({epoch["metric"] for epoch in card(fresh)["history"]}) == 1
    killed = Workspace(tmp_path / "killed")
    assert run_killed(recipe, killed, "teacher", Kill(STEP, 50)) == 49
    assert files(compress(recipe, killed, until="teacher")) == files(fresh)


# Arguments: the function in whose n-th call the process is killed, n, and those of `python -m compress`.
KILLED_PROCESS = f"""
import os, pkgutil, runpy, signal, sys
from compress.training import loop
from tests.tiny_task import at_call

target, call = sys.argv.pop(1), int(sys.argv.pop(1))
owner, _, name = target.rpartition(".")
killed = at_call(call, pkgutil.resolve_name(target), lambda: os.kill(os.getpid(), signal.SIGKILL))
setattr(pkgutil.resolve_name(owner), name, killed)
loop.{SECONDS.rpartition(".")[2]} = -1.0
runpy.run_module("compress", run_name="__main__", alter_sys=True)
"""


def test_the_same_command_goes_on_after_a_real_kill(whole: Made, tmp_path: Path) -> None:
    """A process of its own is killed with half of a checkpoint written: save 30 has the first of three files of the loop's objects."""
    workspace = whole.without("student", tmp_path / "tiny")
    overrides = [argument for setting in whole.settings for argument in ("--set", setting)]
    command = ["run", str(whole.file), "--artifacts", str(tmp_path), *overrides]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments, *command], capture_output=True, text=True, env=environment, cwd=tmp_path
        )

    killed = run("-c", KILLED_PROCESS, "accelerate.accelerator.save_custom_state", str(3 * 29 + 2))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (workspace.root / ".work" / "student" / "phase-0" / "checkpoint.tmp" / "custom_checkpoint_0.pkl").exists()
    resumed = run("-m", "compress")
    assert resumed.returncode == 0, resumed.stderr
    assert "student: carrying on at epoch 2, step 9" in resumed.stderr  # save 29 is of step 28: epoch 1 has one more
    assert files(workspace.root / "student") == files(whole.root / "student")


def test_a_checkpoint_of_other_settings_is_not_used(whole: Made, tmp_path: Path) -> None:
    other = load_recipe(whole.file, (*whole.settings, "compress.warmup=0.5"))
    fresh = compress(other, whole.without("student", tmp_path / "fresh" / "tiny"))
    workspace = whole.without("student", tmp_path / "killed" / "tiny")
    run_killed(whole.recipe, workspace, "student", Kill(STEP, 30))
    with counted_steps() as taken:
        result = compress(other, workspace)
    assert len(taken) == STEPS["student"]
    assert files(result) == files(fresh) != files(whole.root / "student")


def test_a_checkpoint_of_other_texts_is_not_used(tmp_path: Path) -> None:
    recipe = load_recipe(tiny_recipe(tmp_path, rows=ROWS), SETTINGS)
    run_killed(recipe, Workspace(tmp_path / "killed"), "teacher", Kill(STEP, 10))
    write_tsv(tmp_path / "train.tsv", sentences(ROWS, seed=2))
    with counted_steps() as taken:
        result = compress(recipe, Workspace(tmp_path / "killed"), until="teacher")
    assert len(taken) == STEPS["teacher"]
    assert files(result) == files(compress(recipe, Workspace(tmp_path / "fresh"), until="teacher"))


def test_a_kill_while_an_old_checkpoint_is_deleted(tmp_path: Path) -> None:
    """Other inputs delete the checkpoint of the first ones. Back at those, no rest of it may be taken for a whole one."""
    names, found = set(string.ascii_lowercase), []

    def write_and_die(_: Path, scratch: Path) -> None:
        for name in names:
            (scratch / name).touch()
        raise KilledError

    def look(_: Path, scratch: Path) -> None:
        found.append({path.name for path in scratch.iterdir()} & names)

    for call in range(1, len(names) + 2):  # there is one file more, which says whose checkpoint it is
        workspace = Workspace(tmp_path / str(call))
        with pytest.raises(KilledError):
            workspace.run("stage", "first", write_and_die)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("os.unlink", killed_at(call, os.unlink))
            with pytest.raises(KilledError):
                workspace.run("stage", "other", look)
        workspace.run("stage", "first", look)
    assert all(rest in (names, set()) for rest in found)
