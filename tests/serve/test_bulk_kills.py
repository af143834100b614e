"""Bulk jobs that are killed or end early carry on, and only with the same input and options."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

import pytest

from compress.runtime.errors import UserError
from export.bundle import MANIFEST, Bundle
from serve.bulk.chunks import Reader
from serve.bulk.layout import Layout, find_layout
from serve.bulk.parts import Output, Part
from serve.bulk.worker import Setup, Workers
from tests.conftest import MakeBundle
from tests.serve.bulk_tables import ROWS, bulk, cells, read, write
from tests.tiny_task import ROOT, KilledError, killed_at
from tests.waiting import until


def test_too_many_bad_rows_end_the_job_which_a_higher_limit_carries_on(tiny_bundle: Path, tmp_path: Path) -> None:
    rows = cells(ROWS)
    for row in rows[700:710]:
        row["text"] = " "
    table = write(tmp_path / "in.jsonl", rows)
    with pytest.raises(
        UserError, match=r"10 of 1112 rows are bad, and --max-bad is 9 \(line 701: column 'text' is empty"
    ):
        bulk(tiny_bundle, table, tmp_path / "out.jsonl", max_bad=9)
    assert not (tmp_path / "out.jsonl").exists()
    assert len((tmp_path / "out.jsonl.bad.jsonl").read_text().splitlines()) == 10
    state = bulk(tiny_bundle, table, tmp_path / "out.jsonl", max_bad=10)
    assert (state.carried, state.written) == (600, ROWS - 10)


@pytest.mark.parametrize("target", ["out.csv", "parts"])
def test_a_job_killed_anywhere_ends_as_one_that_was_not(
    tiny_bundle: Path, tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = cells(700)
    rows[5]["text"] = rows[650]["text"] = ""
    table = write(tmp_path / "in.csv", rows)
    for name in ("undisturbed", *map(str, range(1, 8))):
        (tmp_path / name).mkdir()
    bulk(tiny_bundle, table, tmp_path / "undisturbed" / target)
    kills = 0
    for call in range(1, 8):  # every moment at which something becomes visible
        folder = tmp_path / str(call)
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", killed_at(call, os.replace))
            try:
                bulk(tiny_bundle, table, folder / target)
            except KilledError:
                kills += 1
                bulk(tiny_bundle, table, folder / target)
        assert content(folder) == content(tmp_path / "undisturbed")
    assert kills >= 6


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


# Arguments: in which call of `os.replace`, by which a part becomes visible, the process is killed, and those of `pocketbert`.
KILLED_PROCESS = """
import os, signal, sys
from pocketbert.cli import main
from tests.tiny_task import at_call

if __name__ == "__main__":
    os.replace = at_call(int(sys.argv.pop(1)), os.replace, lambda: os.kill(os.getpid(), signal.SIGKILL))
    main()
"""


def test_a_process_killed_three_times_leaves_no_worker_and_loses_no_row(tiny_bundle: Path, tmp_path: Path) -> None:
    table = write(tmp_path / "in.csv", cells(4_000))
    bulk(tiny_bundle, table, tmp_path / "undisturbed.csv", part_rows=400)
    arguments = ["predict", str(tiny_bundle), "--file", str(table)]
    arguments += ["--out", str(tmp_path / "out.csv"), "--part-rows", "400", "--workers"]

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        command = (sys.executable, *command)
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)

    done_before = 0
    for workers in "211":
        killed = run("-c", KILLED_PROCESS, "6", *arguments, workers)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        done = len(list((tmp_path / "out.csv.parts").glob("part-*")))
        assert done > done_before
        done_before = done
    ended = run("-m", "pocketbert", *arguments, "1")
    assert ended.returncode == 0, ended.stderr
    assert "carrying on after" in ended.stderr
    assert "by an earlier run" in ended.stderr
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "undisturbed.csv").read_bytes()
    until(lambda: not workers_in(tmp_path))


def test_a_pool_whose_workers_were_killed_is_one_line_for_each_later_chunk_too(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    place = str(write(tmp_path / "in.csv", cells(30)))
    layout = find_layout(place, {"--text": "text"}, separator=None, quoting=None, encoding=None)
    setup = Setup(
        settings={"bundle": tiny_bundle},
        bundle=Bundle(tiny_bundle).sha256,
        source=layout,
        target=Layout("jsonl"),
        schema=None,
        text="text",
        text_b=None,
        kept=None,
        prefix="",
        scores=False,
        domain=None,
    )
    (chunk,) = Reader(place, layout, 100).chunks()
    with Workers(setup, 2) as workers:

        def answer_for_ever() -> None:
            while True:
                workers.submit(chunk).result()

        assert workers.submit(chunk).result().written == 30
        for child in multiprocessing.active_children():
            child.kill()
        with pytest.raises((BrokenExecutor, UserError)):
            answer_for_ever()
        with pytest.raises(UserError, match="a worker was killed"):
            workers.submit(chunk)


def test_a_bundle_that_is_exported_again_while_a_job_begins_answers_no_row(
    make_bundle: MakeBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_bundle()
    begin = Output.begin

    def export_again(output: Output, *arguments: Any, **options: Any) -> list[Part]:
        manifest = json.loads((bundle / MANIFEST).read_text())
        (bundle / MANIFEST).write_text(json.dumps(manifest | {"created": "later"}))
        return begin(output, *arguments, **options)

    monkeypatch.setattr(Output, "begin", export_again)
    with pytest.raises(UserError, match="the bundle was exported again since the job began; begin anew with --force"):
        bulk(bundle, write(tmp_path / "in.csv", cells(30)), tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def workers_in(directory: Path) -> list[int]:
    """The processes that run in a directory."""
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(directory):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def test_a_job_is_not_carried_on_with_other_inputs_or_options(tiny_bundle: Path, tmp_path: Path) -> None:
    table = write(tmp_path / "in.csv", cells(ROWS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", killed_at(4, os.replace))
        with pytest.raises(KilledError):
            bulk(tiny_bundle, table, tmp_path / "out.csv")
    with pytest.raises(UserError, match="had another columns or kind of the output; give the same"):
        bulk(tiny_bundle, table, tmp_path / "out.csv", columns=("id",))
    write(table, cells(ROWS + 1))
    with pytest.raises(UserError, match="had another input"):
        bulk(tiny_bundle, table, tmp_path / "out.csv")
    assert bulk(tiny_bundle, table, tmp_path / "out.csv", force=True).carried == 0
    assert len(read(tmp_path / "out.csv")) == ROWS + 1
