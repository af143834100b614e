"""A directory of bundles in the layout of Triton's model repository: `NAME/VERSION/`, where VERSION is a number.

The highest version that can be served is. A version that is refused is tried again when one of its files has changed: it may have been
copied only in part. If the version that is served is taken away, the server goes back to the highest that is left.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from compress.runtime.errors import UserError
from export.bundle import MANIFEST, Bundle

WATCH_SECONDS = 2.0
State = tuple[tuple[str, int, int], ...]  # name, bytes and time of each file
logger = logging.getLogger("bentoml.pocketbert")


def versions(directory: Path) -> list[Path]:
    """The bundles in a directory whose name is a number, the highest first."""
    found = [
        one for one in directory.glob(f"*/{MANIFEST}") if one.parent.name.isascii() and one.parent.name.isdecimal()
    ]
    return sorted((one.parent for one in found), key=lambda one: int(one.name), reverse=True)


def highest_version(directory: Path) -> Path:
    """The highest version whose files have the hashes of its manifest. Those above are named in the log.

    :raises UserError: there is none.
    """
    for version in versions(directory):
        try:
            Bundle(version)
        except UserError as error:
            logger.warning("passed over: %s", error)
        else:
            return version
    raise UserError(
        f"{directory}: no bundle in it can be served; put one into a directory with a number, such as {directory}/1"
    )


class Watch:
    """Sees when another version should be served.

    :param take: tries to serve a version; whether that succeeded.
    """

    def __init__(self, directory: Path, serves: Path | None, take: Callable[[Path], bool]) -> None:
        self._directory, self._take = directory, take
        self._serves = (serves, state(serves)) if serves is not None else None
        self._refused: dict[Path, State] = {}

    def look(self) -> None:
        """Take the highest version, if it is neither the one that is served nor was refused as it is now."""
        for version in versions(self._directory):
            now = state(version)
            if self._serves == (version, now):
                return
            if self._refused.get(version) != now:
                if self._take(version):
                    self._serves = (version, now)
                    return
                self._refused[version] = now
            if self._serves is not None and self._serves[0] == version:
                return  # it was damaged in its place: the copy from before goes on, and not a version below


def state(version: Path) -> State:
    """What changes when a file of a bundle does."""
    try:
        files = [(str(one.relative_to(version)), one.stat()) for one in sorted(version.rglob("*"))]
    except OSError:  # a file went away between two calls
        return ()
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in files)
