"""Folders on this machine or behind a URL of fsspec. A file that is written there is whole, or is not there.

Here a file is written beside its place and renamed. An object store cannot rename, but it shows an object only when its upload has
ended; fsspec calls that a transaction, which other storages of its get by a rename of their own.
"""

from __future__ import annotations

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path, PurePosixPath
from typing import IO, Any

from compress.runtime.errors import UserError
from serve.bulk.urls import PACKAGES, errors_of_storage, is_url, protocol_of, storage_of

READ_ONLY = ("http", "https")  # fsspec would send a POST there


class Folder(ABC):
    """A folder that may not exist yet. Names are those of files in it."""

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """The content of a file; None: it is not there."""

    @abstractmethod
    def open_new(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """A context with a file to write in pieces. It is there, or in the place of an older one, when the context ends well."""

    def write(self, name: str, data: bytes) -> None:
        """Write a file: it is there when it is whole."""
        with self.open_new(name) as file:
            file.write(data)

    @abstractmethod
    def inside(self, name: str) -> Folder:
        """A folder in this one."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file that may not exist."""

    @abstractmethod
    def remove_all(self) -> None:
        """Remove the folder."""

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Whether a file or a folder is in it."""

    @abstractmethod
    def sizes(self) -> dict[str, int]:
        """The bytes of each file in it, by its name. Folders in it have 0. Of what is a file and no folder: its own."""

    @abstractmethod
    def lock(self, name: str) -> AbstractContextManager[None]:
        """A context in which no other process of this machine locks the same name. An object store has no locks, and no folders.

        :raises UserError: another process has locked it, or the folder is not there.
        """


class LocalFolder(Folder):
    """A folder of this machine. A file is written beside its place, synchronised to the disk and renamed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, name: str) -> bytes | None:
        """See `Folder`."""
        try:
            return (self.path / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

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

    def inside(self, name: str) -> LocalFolder:
        """See `Folder`."""
        return LocalFolder(self.path / name)

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


class UrlFolder(Folder):
    """A folder behind a URL.

    :param place: the URL, for messages.
    """

    def __init__(self, files: Any, path: str, place: str) -> None:
        self.files, self.path, self.place = files, path.rstrip("/"), place.rstrip("/")

    def _at(self, name: str) -> str:
        return f"{self.path}/{name}"

    def read(self, name: str) -> bytes | None:
        """See `Folder`."""
        with errors_of_storage(f"{self.place}/{name}", "read"):
            try:
                return self.files.cat_file(self._at(name))
            except FileNotFoundError:
                return None

    @contextmanager
    def open_new(self, name: str) -> Iterator[IO[bytes]]:
        """See `Folder`.

        Without a transaction, an exception would close the file, and what was written of it would be there as if it were whole.
        """
        with errors_of_storage(f"{self.place}/{name}", "written"):
            if protocol_of(self.place) not in PACKAGES:  # an object store has no folders, and s3fs would make a bucket
                self.files.makedirs(self.path, exist_ok=True)
            with self.files.transaction, self.files.open(self._at(name), "wb") as file:
                yield file

    def inside(self, name: str) -> UrlFolder:
        """See `Folder`."""
        return UrlFolder(self.files, self._at(name), f"{self.place}/{name}")

    def remove(self, name: str) -> None:
        """See `Folder`."""
        with errors_of_storage(f"{self.place}/{name}", "removed"), suppress(FileNotFoundError):
            self.files.rm_file(self._at(name))

    def remove_all(self) -> None:
        """See `Folder`."""
        self.files.invalidate_cache()
        with errors_of_storage(self.place, "removed"), suppress(FileNotFoundError):
            self.files.rm(self.path, recursive=True)

    def exists(self, name: str) -> bool:
        """See `Folder`."""
        self.files.invalidate_cache()
        with errors_of_storage(f"{self.place}/{name}", "read"):
            return bool(self.files.exists(self._at(name)))

    def sizes(self) -> dict[str, int]:
        """See `Folder`."""
        self.files.invalidate_cache()
        with errors_of_storage(self.place, "listed"):
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

    def lock(self, name: str) -> AbstractContextManager[None]:
        """See `Folder`."""
        return nullcontext()


def folder_and_name(place: str) -> tuple[Folder, str]:
    """The folder of a file that shall be written, and its name there.

    :raises UserError: fsspec, or what it needs for this kind of URL, is not installed, or nothing can be written there.
    """
    if not is_url(place):
        path_here = Path(place)
        return LocalFolder(path_here.parent), path_here.name
    protocol = protocol_of(place)
    if protocol in READ_ONLY:
        raise UserError(f"{place}: tables can be read over {protocol} only; write to a path or to an object store")
    files, path = storage_of(place)
    if "/" not in path.strip("/") and protocol in PACKAGES:
        raise UserError(f"{place}: is a whole bucket; name a folder or a table in it, such as {place}/answers")
    return UrlFolder(files, str(PurePosixPath(path).parent), place.rpartition("/")[0]), PurePosixPath(path).name
