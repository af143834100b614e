"""Files on this machine or behind a URL of fsspec. What is written there is whole, or is not there."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

from compress.runtime.errors import UserError, one_line


def is_url(place: str) -> bool:
    """Whether a place is a URL such as s3://bucket/table.csv and not a path."""
    return "://" in place


def local_path(place: str) -> str:
    """A URL of a file of this machine as a path. Other places stay as they are."""
    return place.removeprefix("file://")


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

    def exists(self, name: str = "") -> bool:
        """Whether a file, or the folder itself, exists."""

    def lock(self, name: str) -> Any:
        """A context in which no other process of this machine locks the same name. An object store has no locks."""


class LocalFolder:
    """A folder of this machine. A file is written beside its place, synchronised to the disk and renamed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, name: str) -> bytes | None:
        """See `Folder`."""
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
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

    def exists(self, name: str = "") -> bool:
        """See `Folder`."""
        return (self.path / name).exists()

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """See `Folder`.

        :raises UserError: another process has locked it.
        """
        try:
            import fcntl
        except ModuleNotFoundError:  # Windows
            yield
            return
        self.path.mkdir(parents=True, exist_ok=True)
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
    """A folder behind a URL. Object stores show a file when its upload has ended."""

    def __init__(self, files: Any, path: str) -> None:
        self.files, self.path = files, path

    def _at(self, name: str) -> str:
        return f"{self.path}/{name}" if name else self.path

    def read(self, name: str) -> bytes | None:
        """See `Folder`."""
        try:
            return self.files.cat_file(self._at(name))
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """See `Folder`."""
        self.files.makedirs(self.path, exist_ok=True)
        self.files.pipe_file(self._at(name), data)

    @contextmanager
    def open_new(self, name: str) -> Iterator[IO[bytes]]:
        """See `Folder`."""
        self.files.makedirs(self.path, exist_ok=True)
        try:
            with self.files.open(self._at(name), "wb") as file:
                yield file
        except BaseException:
            self.remove(name)
            raise

    def remove(self, name: str) -> None:
        """See `Folder`."""
        if self.files.exists(self._at(name)):
            self.files.rm_file(self._at(name))

    def remove_all(self) -> None:
        """See `Folder`."""
        if self.files.exists(self.path):
            self.files.rm(self.path, recursive=True)

    def exists(self, name: str = "") -> bool:
        """See `Folder`."""
        self.files.invalidate_cache()
        return bool(self.files.exists(self._at(name)))

    def lock(self, name: str) -> Any:
        """See `Folder`."""
        return nullcontext()


def folder_and_name(place: str) -> tuple[Folder, str]:
    """The folder of a file, and its name there.

    :raises UserError: fsspec, or what it needs for this kind of URL, is not installed.
    """
    if is_url(place):
        files, path = _of_url(place)
        return UrlFolder(files, str(PurePosixPath(path).parent)), PurePosixPath(path).name
    path_here = Path(place)
    return LocalFolder(path_here.parent), path_here.name


def open_input(place: str) -> IO[bytes]:
    """Open a file to read.

    :raises UserError: it cannot be read, or fsspec is missing.
    """
    try:
        if is_url(place):
            files, path = _of_url(place)
            return files.open(path, "rb")
        if not Path(place).is_file():
            raise UserError(f"{place}: {'is a directory; name a table' if Path(place).is_dir() else 'no such file'}")
        return Path(place).open("rb")
    except OSError as error:
        raise UserError(f"{place}: cannot be read ({one_line(error)})") from None


def identity(place: str) -> dict[str, str]:
    """What changes if another file takes the place: size and time here, what the storage says of it (such as its hash) elsewhere."""
    if is_url(place):
        files, path = _of_url(place)
        return {"place": place, "state": json.dumps(files.info(path), sort_keys=True, default=str)}
    state = Path(place).stat()
    return {"place": str(Path(place).absolute()), "state": f"{state.st_size} bytes, {state.st_mtime_ns} ns"}


def size(place: str) -> int | None:
    """The bytes of a file, if they are known."""
    if is_url(place):
        files, path = _of_url(place)
        return files.info(path).get("size")
    return Path(place).stat().st_size


def _of_url(url: str) -> tuple[Any, str]:
    try:
        import fsspec
    except ModuleNotFoundError:
        raise UserError(
            f"{url}: URLs need the package fsspec: pip install fsspec, and what it names for your storage"
        ) from None
    try:
        return fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise UserError(f"{url}: {one_line(error)}") from None
