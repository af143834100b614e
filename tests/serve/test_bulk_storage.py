"""Bulk jobs whose table and output are behind URLs: parts are whole and written once there too."""

from __future__ import annotations

import functools
import http.server
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from compress.runtime.errors import UserError
from serve.bulk.job import State, run_bulk
from serve.bulk.options import BulkOptions
from serve.bulk.storage import UrlFolder, folder_and_name
from tests.serve.bulk_tables import answers, cells, read, write
from tests.tiny_task import KilledError, killed_at

fsspec = pytest.importorskip("fsspec")
ROWS = 1_300
BUCKET = "memory://bucket"


@pytest.fixture
def files() -> Iterator[Any]:
    """Storage in memory. Like an object store, it has no rename, and shows a file when it is whole."""
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    yield memory
    memory.store.clear()


@pytest.fixture
def table(files: Any, tmp_path: Path) -> Path:
    """The table in the bucket, as a file of this machine too."""
    rows = cells(ROWS)
    rows[5]["text"] = rows[1_250]["text"] = ""
    path = write(tmp_path / "in.csv", rows)
    files.pipe_file("/bucket/in.csv", path.read_bytes())
    return path


def job(bundle: Path, target: str, shown: Callable[[State], None] = lambda state: None, **options: Any) -> State:
    return run_bulk(
        bundle, BulkOptions(f"{BUCKET}/in.csv", target, **{"workers": 1, "part_rows": 300} | options), shown
    )


def content(files: Any, folder: str) -> dict[str, bytes]:
    return {name.removeprefix(folder): files.cat_file(name) for name in files.find(folder)}


def undisturbed(bundle: Path, table: Path, target: str) -> dict[str, bytes]:
    """The output of a job on this machine."""
    folder = table.parent / "undisturbed"
    folder.mkdir()
    run_bulk(bundle, BulkOptions(str(table), str(folder / target), workers=1, part_rows=300))
    return {f"/{file.relative_to(folder)}": file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("target", ["out.csv", "parts"])
def test_a_job_killed_at_any_upload_ends_as_one_that_was_not(
    tiny_bundle: Path, table: Path, files: Any, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = undisturbed(tiny_bundle, table, target)
    memory_file = fsspec.implementations.memory.MemoryFile
    kills = 0
    for call in range(1, 15):  # every moment at which something becomes visible
        place = f"{BUCKET}/{call}"
        with monkeypatch.context() as patch:
            patch.setattr(memory_file, "commit", killed_at(call, memory_file.commit))
            try:
                job(tiny_bundle, f"{place}/{target}")
            except KilledError:
                kills += 1
                job(tiny_bundle, f"{place}/{target}")
        assert content(files, f"/bucket/{call}") == expected
    assert kills >= 11  # the job, five parts with their records, bad rows


def test_of_two_runs_of_a_job_the_second_takes_over_and_the_first_stops(
    tiny_bundle: Path, table: Path, files: Any
) -> None:
    def begin_second(state: State) -> None:
        if state.rows == 600 and not second:
            second.append(job(tiny_bundle, f"{BUCKET}/new/parts"))

    second: list[State] = []
    with pytest.raises(UserError, match="new/parts: another run writes this output now"):
        job(tiny_bundle, f"{BUCKET}/new/parts", begin_second)
    assert second[0].carried == 300
    assert content(files, "/bucket/new") == undisturbed(tiny_bundle, table, "parts")


def test_a_run_that_was_replaced_with_force_writes_nothing_more(tiny_bundle: Path, table: Path, files: Any) -> None:
    def begin_other(state: State) -> None:
        if state.rows == 600 and not other:
            other.append(job(tiny_bundle, f"{BUCKET}/parts", stop_at_300, prefix="my_", force=True))

    def stop_at_300(state: State) -> None:
        if state.rows == 300:
            raise KilledError

    other: list[State] = []
    with pytest.raises(KilledError):
        job(tiny_bundle, f"{BUCKET}/parts", begin_other)
    job(tiny_bundle, f"{BUCKET}/parts", prefix="my_")
    assert {data.split(b"\n")[0] for data in content(files, "/bucket/parts").values() if data.startswith(b"id")} == {
        b"id,text,note,my_label,my_score"
    }


def test_a_part_that_is_lost_or_changed_before_the_end_is_an_error(tiny_bundle: Path, table: Path, files: Any) -> None:
    def remove(state: State) -> None:
        if state.rows == ROWS:
            files.rm_file("/bucket/out.csv.parts/part-00001.csv")

    with pytest.raises(UserError, match=r"out\.csv: part-00001\.csv was removed, or is not as this job wrote it"):
        job(tiny_bundle, f"{BUCKET}/out.csv", remove)
    assert not files.exists("/bucket/out.csv")


def test_force_removes_parts_only(tiny_bundle: Path, table: Path, files: Any) -> None:
    files.pipe_file("/bucket/mine/thesis.doc", b"five years")
    with pytest.raises(UserError, match=r"memory://bucket/mine: exists; choose another place"):
        job(tiny_bundle, f"{BUCKET}/mine")
    with pytest.raises(UserError, match=r"mine: holds thesis\.doc, which no bulk job wrote"):
        job(tiny_bundle, f"{BUCKET}/mine", force=True)
    assert files.cat_file("/bucket/mine/thesis.doc") == b"five years"


def test_a_job_that_dies_while_force_removes_leaves_no_record_of_a_part_that_is_gone(
    tiny_bundle: Path, table: Path, files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KilledError):
        job(tiny_bundle, f"{BUCKET}/parts", killed_at(4, lambda state: None))

    def remove_one(folder: UrlFolder) -> None:
        folder.files.rm_file(f"{folder.path}/part-00000.csv")
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(UrlFolder, "remove_all", remove_one)
        with pytest.raises(KilledError):
            job(tiny_bundle, f"{BUCKET}/parts", force=True)
    with pytest.raises(UserError, match="parts: exists"):  # and not: carried on, without its first part
        job(tiny_bundle, f"{BUCKET}/parts")


def test_a_table_is_read_over_http_and_none_is_written(tiny_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    rows = cells(30)
    write(tmp_path / "in.csv", rows)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = f"http://127.0.0.1:{server.server_port}"
        run_bulk(tiny_bundle, BulkOptions(f"{place}/in.csv", str(tmp_path / "out.csv"), workers=1))
        assert read(tmp_path / "out.csv") == answers(tiny_bundle, rows)
        with pytest.raises(UserError, match=r"none\.csv: cannot be read"):
            run_bulk(tiny_bundle, BulkOptions(f"{place}/none.csv", str(tmp_path / "x.csv")))
        with pytest.raises(UserError, match=r"out\.csv: tables can be read over http only"):
            run_bulk(tiny_bundle, BulkOptions(f"{place}/in.csv", f"{place}/out.csv"))
        server.shutdown()


def test_the_missing_package_of_a_storage_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("s3fs", "gcsfs", "adlfs"):
        monkeypatch.setitem(sys.modules, package, None)
    for url, package in {"s3://b/x.csv": "s3fs", "gs://b/x.csv": "gcsfs", "abfs://b/x.csv": "adlfs"}.items():
        with pytest.raises(UserError, match=rf"{url}: needs the package {package}: pip install {package}$"):
            folder_and_name(url)
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(UserError, match="URLs need the package fsspec: pip install s3fs"):
        folder_and_name("s3://b/x.csv")
