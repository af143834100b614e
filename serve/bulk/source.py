"""The table that a job reads, on this machine or behind a URL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO, Any

from compress.runtime.errors import UserError, one_line
from serve.bulk.urls import errors_of_storage, is_url, storage_of

# What a storage says of a file that changes with its content, under the names of the several storages.
STATE = (
    "size",
    "ETag",
    "etag",
    "md5Hash",
    "generation",
    "LastModified",
    "last_modified",
    "updated",
    "mtime",
    "modified",
    "created",
)


def open_input(place: str) -> IO[bytes]:
    """Open a file to read.

    :raises UserError: it cannot be read, or fsspec is missing.
    """
    if is_url(place):
        files, path = storage_of(place)
        with errors_of_storage(place, "read"):
            return files.open(path, "rb")
    try:
        if not Path(place).is_file():
            raise UserError(f"{place}: {'is a directory; name a table' if Path(place).is_dir() else 'no such file'}")
        return Path(place).open("rb")
    except OSError as error:
        raise UserError(f"{place}: cannot be read ({one_line(error)})") from None


def identity(place: str) -> dict[str, str]:
    """What changes if another file takes the place: size and time here, what the storage says of it (such as its hash) elsewhere."""
    if is_url(place):
        said = _info(place)
        # Not all that it says: a listing says more or less of a file than a question for it, and fsspec takes what it has.
        return {"place": place, "state": json.dumps({name: said[name] for name in STATE if name in said}, default=str)}
    state = Path(place).stat()
    return {"place": str(Path(place).absolute()), "state": f"{state.st_size} bytes, {state.st_mtime_ns} ns"}


def size(place: str) -> int | None:
    """The bytes of a file, if they are known."""
    return _info(place).get("size") if is_url(place) else Path(place).stat().st_size


def _info(url: str) -> dict[str, Any]:
    files, path = storage_of(url)
    with errors_of_storage(url, "read"):
        return dict(files.info(path))
