"""Bulk jobs on the S3 API, spoken by moto's server. Not part of `make test`, which has neither: pip install s3fs 'moto[server]'."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compress.runtime.errors import UserError
from serve.bulk.job import State, run_bulk
from serve.bulk.options import BulkOptions
from serve.bulk.storage import UrlFolder, folder_and_name
from tests.serve.bulk_tables import cells, write
from tests.tiny_task import KilledError, killed_at

s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed")
moto = pytest.importorskip("moto.server", reason="moto[server] is not installed")


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty bucket `bucket` of a server on this machine."""
    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    urllib.request.urlopen(urllib.request.Request(f"{address}/moto-api/reset", method="POST")).close()
    for name, value in {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    store = s3fs.S3FileSystem()
    store.mkdir("bucket")
    yield store
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def content(files: Any, folder: str) -> dict[str, bytes]:
    files.invalidate_cache()
    return {name.removeprefix(folder): files.cat_file(name) for name in files.find(folder)}


def job(bundle: Path, source: str, target: str, **options: Any) -> State:
    return run_bulk(bundle, BulkOptions(source, target, **{"workers": 1, "part_rows": 300} | options))


@pytest.mark.parametrize(("kind", "target"), [("csv", "out.csv"), ("csv", "parts"), ("parquet", "out.parquet")])
def test_a_job_killed_at_any_upload_ends_as_one_that_was_not(
    tiny_bundle: Path, tmp_path: Path, files: Any, kind: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = cells(700)
    rows[5]["text"] = rows[650]["text"] = ""
    table = write(tmp_path / f"in.{kind}", rows)
    files.pipe_file(f"bucket/in.{kind}", table.read_bytes())
    folder = tmp_path / "undisturbed"
    folder.mkdir()
    job(tiny_bundle, str(table), str(folder / target))
    expected = {f"/{file.relative_to(folder)}": file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    kills = 0
    for call in range(1, 11):
        place = f"bucket/{call}"
        with monkeypatch.context() as patch:
            patch.setattr(s3fs.core.S3File, "commit", killed_at(call, s3fs.core.S3File.commit))
            try:
                job(tiny_bundle, f"s3://bucket/in.{kind}", f"s3://{place}/{target}")
            except KilledError:
                kills += 1
                job(tiny_bundle, f"s3://bucket/in.{kind}", f"s3://{place}/{target}")
        assert content(files, place) == expected
    assert kills >= 8  # the job, three parts with their records, bad rows


def test_an_upload_that_ends_early_is_not_seen_and_leaves_the_older_file(files: Any) -> None:
    folder, name = folder_and_name("s3://bucket/answers/out.csv")
    assert isinstance(folder, UrlFolder)
    folder.write(name, b"older")

    def half(size: int) -> None:
        with folder.open_new(name) as file:
            file.write(b"x" * size)
            raise KilledError

    for size in (10, 60 << 20):  # in one request, and as an upload in several
        with pytest.raises(KilledError):
            half(size)
        assert folder.read(name) == b"older"
    assert not files.call_s3("list_multipart_uploads", Bucket="bucket").get("Uploads")
    assert folder.sizes() == {name: 5}


def test_a_bucket_that_is_not_there_or_whole_is_one_line(tiny_bundle: Path, tmp_path: Path, files: Any) -> None:
    table = write(tmp_path / "in.csv", cells(3))
    with pytest.raises(UserError, match=r"s3://none/out\.csv\.parts/job\.json: cannot be written .*bucket"):
        job(tiny_bundle, str(table), "s3://none/out.csv")
    with pytest.raises(UserError, match=r"s3://bucket: is a whole bucket; name a folder or a table in it"):
        job(tiny_bundle, str(table), "s3://bucket/", force=True)
    with pytest.raises(UserError, match=r"s3://bucket/none\.csv: cannot be read"):
        job(tiny_bundle, "s3://bucket/none.csv", str(tmp_path / "out.csv"))
