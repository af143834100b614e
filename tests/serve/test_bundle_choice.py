"""A server answers with the bundle that it chose at its start, whatever is exported later."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from compress.runtime.errors import UserError
from export.bundle import MANIFEST, Bundle, file_entry
from export.golden import GOLDEN
from serve import admin
from serve.bundle_choice import (
    PREVIOUS,
    STATE,
    SWAP,
    choose,
    make_state,
    read_choice,
    serving_file,
    state_directory,
    write_choice,
)
from serve.predictor import Predictor
from serve.settings import Settings
from serve.swap import Swapper, SwapResult
from tests.conftest import MakeBundle
from tests.waiting import PATIENCE, until


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(STATE, "")  # restored at the end
    return make_state()


def test_the_copy_stays_when_the_bundle_is_exported_again(state: Path, make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    choice = choose(bundle, state)
    write_choice(choice, state)
    assert choice.sha256 == Bundle(bundle).sha256
    (bundle / "model.fp32.onnx").write_bytes(b"half of a new mod")
    assert read_choice(state) == choice
    assert Predictor(Settings(bundle=choice.copied)).info.bundle == choice.sha256


def test_another_manifest_is_another_bundle(make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    before = Bundle(bundle).sha256
    manifest = json.loads((bundle / MANIFEST).read_text())
    (bundle / MANIFEST).write_text(json.dumps(manifest | {"name": "other"}))
    assert Bundle(bundle).sha256 != before


def test_a_broken_bundle_is_refused_and_the_choice_stays(state: Path, make_bundle: MakeBundle) -> None:
    choice = choose(make_bundle("good"), state)
    write_choice(choice, state)
    broken = make_bundle("broken")
    (broken / "model.fp32.onnx").unlink()
    with pytest.raises(UserError, match="missing from the bundle"):
        choose(broken, state)
    assert read_choice(state) == choice


def test_the_bundle_before_is_kept_and_older_ones_are_removed(state: Path, make_bundle: MakeBundle) -> None:
    choices = []
    for name in ("one", "two", "three"):
        choices.append(choose(make_bundle(name), state))
        write_choice(choices[-1], state)
    assert (read_choice(state), read_choice(state, PREVIOUS)) == (choices[2], choices[1])
    assert [choice.copied.exists() for choice in choices] == [False, True, True]
    write_choice(choices[1], state)  # a rollback
    assert (read_choice(state), read_choice(state, PREVIOUS)) == (choices[1], choices[2])


def swapped(state: Path, supervisor: object = SimpleNamespace(watchers=()), /, **request: object) -> SwapResult:
    """What becomes of a request for a swap, by default without workers."""
    (state / SWAP).write_text(f"result.json\n{json.dumps(request, default=str)}")
    Swapper(Settings(artifacts=state / "none"), state).start(supervisor)
    until((state / "result.json").exists)
    result = SwapResult.model_validate_json((state / "result.json").read_text())
    (state / "result.json").unlink()
    return result


def test_a_bundle_that_clients_do_not_know_is_taken_only_if_asked_for(state: Path, make_bundle: MakeBundle) -> None:
    write_choice(choose(make_bundle("old"), state), state)
    pairs = make_bundle("pairs", pair=True)
    refused = swapped(state, bundle=pairs)
    assert refused.bundle is None
    assert "other labels (better, worse; now negative, positive)" in str(refused.error)
    assert swapped(state, bundle=pairs, other_labels=True).bundle == Bundle(pairs).sha256


def test_a_bundle_that_answers_otherwise_than_at_its_export_is_refused(state: Path, make_bundle: MakeBundle) -> None:
    old = choose(make_bundle("old"), state)
    write_choice(old, state)
    new = make_bundle("new")
    golden = json.loads((new / GOLDEN).read_text())
    golden["logits"]["fp32"][0][0] += 1.0
    (new / GOLDEN).write_text(json.dumps(golden))
    manifest = json.loads((new / MANIFEST).read_text())
    manifest["files"][GOLDEN] = file_entry(new / GOLDEN).model_dump()
    (new / MANIFEST).write_text(json.dumps(manifest))
    assert "away from that at export" in str(swapped(state, bundle=new).error)
    assert read_choice(state) == old


def test_a_swap_without_a_cause_is_one_line(state: Path, make_bundle: MakeBundle) -> None:
    old = choose(make_bundle("old"), state)
    write_choice(old, state)
    assert "no other bundle before" in str(swapped(state, rollback=True).error)
    assert "nowhere: no such directory" in str(swapped(state, bundle="/nowhere").error)
    assert "no bundle under" in str(swapped(state).error)
    assert read_choice(state) == old


def test_a_worker_that_has_just_ended_keeps_no_other_from_the_new_bundle(state: Path, make_bundle: MakeBundle) -> None:
    write_choice(choose(make_bundle("old"), state), state)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    other = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"],
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # under nohup it would be ignored
    )
    try:
        supervisor = SimpleNamespace(watchers=[SimpleNamespace(processes=[ended.pid, other.pid])])
        result = swapped(state, supervisor, bundle=make_bundle("new"))
        assert result.workers == [ended.pid, other.pid]
        assert other.wait(PATIENCE) == -signal.SIGHUP
    finally:
        other.kill()


def test_a_choice_that_cannot_be_written_is_told_and_ends_no_thread(state: Path, make_bundle: MakeBundle) -> None:
    old = choose(make_bundle("old"), state)
    write_choice(old, state)
    (state / PREVIOUS).mkdir()  # so it cannot be replaced, as on a full disk
    assert "Is a directory" in str(swapped(state, bundle=make_bundle("new")).error)
    assert read_choice(state) == old


def test_a_worker_that_does_not_change_in_time_is_no_success(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()
    monkeypatch.setattr(admin, "monotonic", lambda: next(clock))
    monkeypatch.setattr(admin, "POLL_SECONDS", 0)
    here = os.getpid()
    (state / "swap-1.json").write_text(SwapResult(bundle="new", workers=[here]).model_dump_json())
    result = asyncio.run(admin._result(state / "swap-1.json"))
    assert (result.bundle, result.error) == (
        "new",
        "1 of 1 workers have not changed to the bundle yet; see the server's log",
    )
    serving_file(state, here).write_text("new")
    (state / "swap-2.json").write_text(SwapResult(bundle="new", workers=[here]).model_dump_json())
    assert asyncio.run(admin._result(state / "swap-2.json")).error is None


def test_only_the_files_that_the_manifest_lists_are_copied(state: Path, make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    (bundle / "model.fp32.onnx.data").write_bytes(b"weights that nobody hashed")
    copied = choose(bundle, state).copied
    assert sorted(file.name for file in copied.iterdir()) == [GOLDEN, MANIFEST, "model.fp32.onnx", "tokenizer.json"]


def test_the_server_s_directory_is_its_user_s_alone(state: Path) -> None:
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert state_directory() == state


def test_a_process_outside_a_server_has_no_choice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(STATE, raising=False)
    assert state_directory() is None
    monkeypatch.setenv(STATE, str(tmp_path / "removed"))
    assert state_directory() is None
