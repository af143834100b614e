"""The whole path on a task of seconds: commands as a user types them, in processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from compress.data.files import sha256_file
from compress.pipeline.stages import stage_keys
from compress.pipeline.workspace import Workspace
from compress.recipe import load_recipe
from export.build import build_bundle
from export.bundle import Bundle
from export.session import BundleSession
from export.verify import verify_bundle
from tests.e2e import prepared
from tests.tiny_task import sentences, tiny_recipe, write_tsv
from tests.waiting import until

Run = Callable[..., subprocess.CompletedProcess[str]]
STAGES = ("teacher", "linear", "augmented", "teacher_outputs", "search", "trials", "architecture", "student", "bundle")


def arguments(module: str, recipe: Path, *more: str) -> list[str]:
    return [
        *(["run"] if module == "compress" else []),
        str(recipe),
        "--artifacts",
        str(recipe.parent / "artifacts"),
        *more,
    ]


def run(module: str, recipe: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return prepared.run(module, *arguments(module, recipe, *more), output=recipe.parent / "output")


def typed(module: str, recipe: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """As `run`, in a process that imports everything itself."""
    command = [sys.executable, "-m", module, *arguments(module, recipe, *more)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})


def compress_and_export(recipe: Path, *more: str, run: Run = run) -> str:
    output = ""
    for module in ("compress", "export"):
        done = run(module, recipe, *more)
        assert done.returncode == 0, done.stderr
        output += done.stderr
    assert "it/s" not in output  # bars of libraries, which are for terminals
    assert "\r" not in output
    return output


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = tiny_recipe(tmp_path_factory.mktemp("task"))
    output = compress_and_export(recipe, run=typed)
    assert all(f"▸ {stage}" in output for stage in STAGES)
    return recipe


def test_the_int8_student_learned_the_task_and_passed_the_gate(task: Path) -> None:
    bundle = Bundle(task.parent / "artifacts" / "tiny" / "bundle")
    manifest = bundle.manifest
    assert manifest.default == "int8"
    assert manifest.models["int8"].passed
    assert (manifest.models["int8"].dev_accuracy or 0) >= 0.95
    assert sum("golden examples" in line for line in verify_bundle(bundle)) == 2
    assert manifest.fast_tokenizer is not None
    assert manifest.fast_tokenizer.task_texts == 500  # train and dev
    session = BundleSession(bundle)
    assert session.encoder.library == "nanotoken"
    texts = [text for text, _ in sentences(60, seed=9)]
    labels = [manifest.labels.index(label) for _, label in sentences(60, seed=9)]
    assert (session.predict(texts).argmax(axis=1) == labels).mean() >= 0.95
    assert manifest.provenance["recipe"]["name"] == "tiny"


def test_a_student_learns_in_mixed_precision_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    recipe = tiny_recipe(tmp_path)
    compress_and_export(recipe, "--set", "search.trials=1", "--set", "compress.epochs=2")
    manifest = Bundle(tmp_path / "artifacts" / "tiny" / "bundle").manifest
    assert (manifest.models["int8"].dev_accuracy or 0) >= 0.95
    for precision, message in (("fp13", "'fp13' is none of"), ("fp16", "fp16 needs a GPU")):
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", precision)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        assert message in refused("compress", recipe, "--set", "compress.epochs=1")


def test_a_second_run_makes_nothing_and_says_so(task: Path) -> None:
    output = compress_and_export(task)
    assert all(f"✓ {stage}: up to date" in output for stage in STAGES)
    assert "▸" not in output


def test_int8_over_the_budget_is_not_the_default_and_every_way_was_tried(task: Path) -> None:
    compress_and_export(task)
    recipe = load_recipe(task)
    # A budget that no model meets, which a recipe file cannot ask for.
    recipe = recipe.model_copy(update={"export": recipe.export.model_copy(update={"budget": -1.0})})
    manifest = build_bundle(recipe, Workspace(task.parent / "artifacts" / "tiny"), "cpu").manifest
    assert manifest.default == "fp32"
    assert manifest.models["int8"].passed is False
    attempts = manifest.models["int8"].attempts
    assert not any(attempt.passed for attempt in attempts)
    # Both schemes for the whole graph, then 1, 2, 4, … of the layers in float.
    assert [len(attempt.float_layers) for attempt in attempts[:5]] == [0, 0, 1, 2, 4]


def members(launcher: int | None) -> dict[int, int]:
    """The process ids of a run of several processes, by their numbers."""
    found = {}
    for process in psutil.Process(launcher).children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has just ended
            if number := process.environ().get("RANK"):
                found[int(number)] = process.pid
    return found


def test_two_processes_make_one_student_together_and_one_carries_on_after_a_kill(tmp_path: Path) -> None:
    recipe, log = tiny_recipe(tmp_path), tmp_path / "two.err"
    root = tmp_path / "artifacts" / "tiny"
    short = ("--set", "search.trials=1", "--set", "teacher.epochs=5", "--set", "compress.epochs=4")
    two = prepared.start("compress", arguments("compress", recipe, *short, "--processes", "2"), tmp_path / "two")
    while two.is_alive() and not (log.exists() and "▸ student" in log.read_text()):
        two.join(0.01)
    os.kill(members(two.pid)[1], signal.SIGKILL)
    two.join()
    output = log.read_text()
    assert two.exitcode == 2
    assert all(output.count(f"▸ {stage}\n") == 1 for stage in STAGES[:-1] if stage != "augmented")
    assert output.partition("▸ student\n")[2].splitlines()[-1] == (
        "error: process 1 of 2 was killed (SIGKILL, as the system does when memory runs out); run the same command again, which carries on"
    )
    assert "Traceback" not in output
    assert not (root / "student").exists()
    again = run("compress", recipe, *short).stderr
    assert re.findall(r"▸ (\w+)", again) == ["student"]
    card = json.loads((root / "student" / "card.json").read_text())
    assert max(epoch["dev accuracy"] for epoch in card["history"]) >= 0.9


def test_a_changed_key_makes_only_what_depends_on_it(task: Path) -> None:
    output = compress_and_export(task, "--set", "compress.epochs=1")
    assert all(f"✓ {stage}: up to date" in output for stage in STAGES[:-2])
    assert all(f"▸ {stage}" in output for stage in STAGES[-2:])


def test_two_runs_of_a_recipe_give_the_same_student(task: Path, tmp_path: Path) -> None:
    shutil.copytree(task.parent, tmp_path / "again", ignore=shutil.ignore_patterns("artifacts"))
    again = tmp_path / "again" / task.name
    for one in (again, task):
        done = run("compress", one, "--set", "compress.epochs=1")
        assert done.returncode == 0, done.stderr
    weights = [recipe.parent / "artifacts" / "tiny" / "student" / "model.safetensors" for recipe in (task, again)]
    assert sha256_file(weights[0]) == sha256_file(weights[1])


@pytest.mark.slow
def test_killed_in_every_stage_the_same_command_carries_on(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path)
    root = tmp_path / "artifacts" / "tiny"
    keys = stage_keys(load_recipe(recipe))
    kills = 0
    for number, stage in enumerate(STAGES):
        module = "export" if stage == "bundle" else "compress"
        process = prepared.start(module, arguments(module, recipe), tmp_path / "killed")
        log = tmp_path / "killed.err"
        begun = re.compile(
            "|".join(f"▸ {name}" for name in STAGES[number:])
        )  # a short one may be over since the last kill
        until(lambda: not process.is_alive() or (log.exists() and begun.search(log.read_text())), pause=0.01)  # noqa: B023
        time.sleep(0.2)
        process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
        log.unlink()
        if (root / stage).exists():  # on a fast machine some stages are over by then
            whole = Bundle(root / stage) if stage == "bundle" else Workspace(root).is_current(stage, keys[stage])
            assert whole, "a half-made result stands where a whole one belongs"
        if stage == "student":  # finish compression, so that export has something to be killed in
            assert run("compress", recipe).returncode == 0
    assert kills > len(STAGES) / 2
    compress_and_export(recipe)
    manifest = Bundle(root / "bundle").manifest
    assert (manifest.models["int8"].dev_accuracy or 0) >= 0.95
    assert sorted(p.name for p in root.iterdir() if not p.name.startswith(".")) == sorted(STAGES)


def refused(module: str, recipe: Path, *more: str, run: Run = run) -> str:
    """The one line on stderr of a command that must fail."""
    done = run(module, recipe, *more)
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "Traceback" not in done.stderr
    return lines[0]


def test_mistakes_end_in_one_line_and_exit_status_2(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, rows=40)
    assert "no such recipe" in refused("compress", tmp_path / "absent.toml", run=typed)
    assert "unknown key" in refused("compress", recipe, "--set", "compress.epohcs=3")
    assert "no such file" in refused("compress", recipe, "--set", "data.dev=/nowhere/dev.tsv")
    assert "no column 'body'" in refused("compress", recipe, "--set", "data.text=body")
    one_class = write_tsv(tmp_path / "one.tsv", [("a", "x"), ("b", "x")])
    assert "one class only" in refused("compress", recipe, "--set", f"data.train={one_class}")
    unseen = write_tsv(tmp_path / "unseen.tsv", [("a", "neutral")])
    assert "train never had" in refused("compress", recipe, "--set", f"data.dev={unseen}")
    assert "is for pairs of texts" in refused("compress", recipe, "--set", "student.pair_inputs=streams")
    assert "run `pocketbert compress`" in refused("export", recipe)
    # Mistakes that show only once torch is there.
    assert "no/such-model" in refused("compress", recipe, "--set", "teacher.model=no/such-model")
    assert "64 tokens at most" in refused("compress", recipe, "--set", "data.max_length=128")
    labels = json.dumps(["positive", "negative"])
    message = refused("compress", recipe, "--set", "teacher.fine_tuned=true", "--set", f"data.labels={labels}")
    assert "say by data.relabel which label each of the model's is" in message


def test_a_pair_task_and_a_tensorrt_engine(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings", reason="needs pip install '.[rtx]'")
    recipe = tiny_recipe(tmp_path)
    rows = [
        (text, other, label) for (text, label), (other, _) in zip(sentences(200), sentences(200, seed=5), strict=True)
    ]
    header = ("one", "two", "label")
    write_tsv(tmp_path / "train.tsv", rows, header)
    write_tsv(tmp_path / "dev.tsv", rows[:60], header)
    more = ["--set", "data.text=one", "--set", "data.text_b=two"]
    assert run("compress", recipe, *more).returncode == 0
    done = run("export", recipe, "--target", "tensorrt", *more)
    assert done.returncode == 0, done.stderr
    manifest = Bundle(tmp_path / "artifacts" / "tiny" / "bundle").manifest
    assert manifest.pair
    engine = manifest.models["tensorrt"].engine
    assert engine is not None
    assert engine.compute_capability == "8.9"
    assert manifest.models["tensorrt-qdq"].passed is not None
    assert manifest.default in ("int8", "fp32")
