"""URLs of fsspec: the storage behind one, and what it raises as one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from compress.runtime.errors import UserError, one_line

LOCAL = ("file://", "local://")  # URLs of files of this machine
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


def is_url(place: str) -> bool:
    """Whether a place is a URL such as s3://bucket/table.csv and not a path."""
    return "://" in place


def local_path(place: str) -> str:
    """A URL of a file of this machine as a path. Other places stay as they are."""
    return next((place.removeprefix(begin) for begin in LOCAL if place.startswith(begin)), place)


def storage_of(url: str) -> tuple[Any, str]:
    """The storage of a URL, and the path there.

    :raises UserError: fsspec, or what it needs for this kind of URL, is not installed.
    """
    try:
        import fsspec
    except ModuleNotFoundError:
        raise UserError(
            f"{url}: URLs need the package fsspec: pip install {PACKAGES.get(protocol_of(url), 'fsspec')}"
        ) from None
    try:
        return fsspec.core.url_to_fs(url)
    except ImportError as error:
        package = PACKAGES.get(protocol_of(url))
        needed = f"needs the package {package}: pip install {package}" if package else one_line(error)
        raise UserError(f"{url}: {needed}") from None
    except ValueError as error:
        raise UserError(f"{url}: {one_line(error)}") from None


def protocol_of(url: str) -> str:
    """Such as s3, also if another one is put before it: simplecache::s3://bucket."""
    return url.split("://", 1)[0].split("::")[-1]


@contextmanager
def errors_of_storage(place: str, done: str) -> Iterator[None]:
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
