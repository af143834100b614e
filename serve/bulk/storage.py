"""Files on this machine or behind a URL of fsspec. What is written there is whole, or is not there.

Here a file is written beside its place and renamed. An object store cannot rename, but it shows an object only when its upload has
ended; fsspec calls that a transaction, which other storages of its get by a rename of their own.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

from compress.runtime.errors import UserError, one_line

LOCAL = ("file://", "local://")  # URLs of files of this machine
READ_ONLY = ("http", "https")  # fsspec would send a POST there
PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
}
OF_STORAGES = (
    "aiohttp",
    "aiobotocore",
    "azure",
    "botocore",
    "fsspec",
    "gcsfs",
    "google",
    "requests",
    "s3fs",
)  # modules of their exceptions
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


def is_url(place: str) -> bool:
    """Whether a place is a URL such as s3://bucket/table.csv and not a path."""
    return "://" in place


def local_path(place: str) -> str:
    """A URL of a file of this machine as a path. Other places stay as they are."""
    return next((place.removeprefix(begin) for begin in LOCAL if place.startswith(begin)), place)


class Folder(Protocol):
    """A folder that may not exist yet. Names are those of files in it."""

    def read(self, name: str) -> bytes | None:
        """The content of a file; None: it is not there."""

    def write(self, name: str, data: bytes) -> None:
        """Write a file: it is there when it is whole."""

    def open_new(self, name: str) -> Any:
        """A context with a file to write in pieces. It is there, or in the place of an older one, when the context ends well."""

    def remove(self, name: str) -> None:
        """Remove a file that may not exist."""

    def remove_all(self) -> None:
        """Remove the folder."""

    def exists(self, name: str) -> bool:
        """Whether a file or a folder is in it."""

    def sizes(self) -> dict[str, int]:
        """The bytes of each file in it, by its name. Folders in it have 0. Of what is a file and no folder: its own."""

    def lock(self, name: str) -> Any:
        """A context in which no other process of this machine locks the same name. An object store has no locks, and no folders.

        :raises UserError: another process has locked it, or the folder is not there.
        """


class LocalFolder:
    """A folder of this machine. A file is written beside its place, synchronised to the disk and renamed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, name: str) -> bytes | None:
        """See `Folder`."""
        try:
            return (self.path / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, name: str, data: bytes) -> None:
        """See `Folder`."""
        with self.open_new(name) as file:
            file.write(data)

    @contextmanager
    def open_new(self, name: str) -> Iterator[IO[bytes]]:
        """See `Folder`."""
        self.path.mkdir(parents=True, exist_ok=True)
        temporary = self.path / f".{name}.tmp"
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path / name)
        finally:
            temporary.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """See `Folder`."""
        (self.path / name).unlink(missing_ok=True)

    def remove_all(self) -> None:
        """See `Folder`."""
        shutil.rmtree(self.path, ignore_errors=True)

    def exists(self, name: str) -> bool:
        """See `Folder`."""
        return (self.path / name).exists()

    def sizes(self) -> dict[str, int]:
        """See `Folder`."""
        there = self.path.iterdir() if self.path.is_dir() else [self.path] if self.path.exists() else []
        return {file.name: file.stat().st_size if file.is_file() else 0 for file in there}

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """See `Folder`.

        :raises UserError: another process has locked it, or the folder is not there.
        """
        if not self.path.is_dir():
            fault = "is not a folder;" if self.path.exists() else "no such folder; make it, or"
            raise UserError(f"{self.path}: {fault} name another place with --out")
        try:
            import fcntl
        except ModuleNotFoundError:  # Windows
            yield
            return
        with (self.path / name).open("wb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # it ends with the process, however that ends
            except BlockingIOError:
                raise UserError(f"{self.path / name}: another process writes this output; wait for it") from None
            try:
                yield
            finally:
                self.remove(name)


class UrlFolder:
    """A folder behind a URL.

    :param place: the URL, for messages.
    """

    def __init__(self, files: Any, path: str, place: str) -> None:
        self.files, self.path, self.place = files, path.rstrip("/"), place.rstrip("/")

    def _at(self, name: str) -> str:
        return f"{self.path}/{name}"

    def read(self, name: str) -> bytes | None:
        """See `Folder`."""
        with _errors_of_storage(f"{self.place}/{name}", "read"):
            try:
                return self.files.cat_file(self._at(name))
            except FileNotFoundError:
                return None

    def write(self, name: str, data: bytes) -> None:
        """See `Folder`."""
        with self.open_new(name) as file:
            file.write(data)

    @contextmanager
    def open_new(self, name: str) -> Iterator[IO[bytes]]:
        """See `Folder`.

        Without a transaction, an exception would close the file, and what was written of it would be there as if it were whole.
        """
        with _errors_of_storage(f"{self.place}/{name}", "written"):
            if _protocol(self.place) not in PACKAGES:  # an object store has no folders, and s3fs would make a bucket
                self.files.makedirs(self.path, exist_ok=True)
            with self.files.transaction, self.files.open(self._at(name), "wb") as file:
                yield file

    def remove(self, name: str) -> None:
        """See `Folder`."""
        with _errors_of_storage(f"{self.place}/{name}", "removed"), suppress(FileNotFoundError):
            self.files.rm_file(self._at(name))

    def remove_all(self) -> None:
        """See `Folder`."""
        self.files.invalidate_cache()
        with _errors_of_storage(self.place, "removed"), suppress(FileNotFoundError):
            self.files.rm(self.path, recursive=True)

    def exists(self, name: str) -> bool:
        """See `Folder`."""
        self.files.invalidate_cache()
        with _errors_of_storage(f"{self.place}/{name}", "read"):
            return bool(self.files.exists(self._at(name)))

    def sizes(self) -> dict[str, int]:
        """See `Folder`."""
        self.files.invalidate_cache()
        with _errors_of_storage(self.place, "listed"):
            try:
                found = self.files.ls(self.path, detail=True)
            except FileNotFoundError:
                return {}
        own = self.path.strip("/")  # some stores have an object of no bytes for a folder, and list it in the folder
        return {
            PurePosixPath(one["name"]).name: one["size"] or 0
            for one in found
            if (one["type"] == "file" and one["size"]) or one["name"].strip("/") != own
        }

    def lock(self, name: str) -> Any:
        """See `Folder`."""
        return nullcontext()


def folder_and_name(place: str) -> tuple[Folder, str]:
    """The folder of a file that shall be written, and its name there.

    :raises UserError: fsspec, or what it needs for this kind of URL, is not installed, or nothing can be written there.
    """
    if not is_url(place):
        path_here = Path(place)
        return LocalFolder(path_here.parent), path_here.name
    protocol = _protocol(place)
    if protocol in READ_ONLY:
        raise UserError(f"{place}: tables can be read over {protocol} only; write to a path or to an object store")
    files, path = _of_url(place)
    if "/" not in path.strip("/") and protocol in PACKAGES:
        raise UserError(f"{place}: is a whole bucket; name a folder or a table in it, such as {place}/answers")
    return UrlFolder(files, str(PurePosixPath(path).parent), place.rpartition("/")[0]), PurePosixPath(path).name


def folder_inside(folder: Folder, name: str) -> Folder:
    """A folder in another one."""
    if isinstance(folder, UrlFolder):
        return UrlFolder(folder.files, f"{folder.path}/{name}", f"{folder.place}/{name}")
    assert isinstance(folder, LocalFolder), "there are two kinds of folders"
    return LocalFolder(folder.path / name)


def open_input(place: str) -> IO[bytes]:
    """Open a file to read.

    :raises UserError: it cannot be read, or fsspec is missing.
    """
    if is_url(place):
        files, path = _of_url(place)
        with _errors_of_storage(place, "read"):
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
    files, path = _of_url(url)
    with _errors_of_storage(url, "read"):
        return dict(files.info(path))


def _of_url(url: str) -> tuple[Any, str]:
    """The storage of a URL, and the path there."""
    try:
        import fsspec
    except ModuleNotFoundError:
        raise UserError(
            f"{url}: URLs need the package fsspec: pip install {PACKAGES.get(_protocol(url), 'fsspec')}"
        ) from None
    try:
        return fsspec.core.url_to_fs(url)
    except ImportError as error:
        package = PACKAGES.get(_protocol(url))
        needed = f"needs the package {package}: pip install {package}" if package else one_line(error)
        raise UserError(f"{url}: {needed}") from None
    except ValueError as error:
        raise UserError(f"{url}: {one_line(error)}") from None


def _protocol(url: str) -> str:
    """Such as s3, also if another one is put before it: simplecache::s3://bucket."""
    return url.split("://", 1)[0].split("::")[-1]


@contextmanager
def _errors_of_storage(place: str, done: str) -> Iterator[None]:
    """Turn what a storage raises into one line. Each package of fsspec has exceptions of its own, not all of them of `OSError`.

    :param done: what cannot be done, such as "read".
    """
    try:
        yield
    except Exception as error:
        package = type(error).__module__.partition(".")[0]
        if isinstance(error, UserError) or not (
            isinstance(error, OSError | NotImplementedError) or package in OF_STORAGES
        ):
            raise
        raise UserError(f"{place}: cannot be {done} ({one_line(error) or type(error).__name__})") from None
