"""Files and directories that are never seen half written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A context in which a new file is written, which takes the place of `file` at its end: a reader sees the old one or the new one.

    The new file is beside the old one, and its name is used once: two runs that write the same file at the same time do not meet, and
    the last one counts. After an exception it is removed. A kill leaves it there, so files of many megabytes are better
    written under a fixed name and a lock.

    :returns: where to write it.
    :raises OSError: it cannot take that place.
    """
    temporary = file.with_name(f".{file.name}.{uuid4().hex}.tmp")
    try:
        yield temporary
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(file: Path, text: str) -> None:
    """Write a file of UTF-8 in one step, as `replacing` does.

    :raises OSError: it cannot be written.
    """
    with replacing(file) as temporary:
        temporary.write_text(text, encoding="utf-8")


def replace_directory(new: Path, target: Path) -> None:
    """Replace the directory `target`, or the link of that name, by the finished directory `new`. What a link leads to stays.

    These are two renames. If the process is killed between them, `recover_directory` restores the old directory.

    :raises OSError: one of the renames failed; after the second one, too, `recover_directory` restores the old directory.
    """
    old = target.with_name(f".{target.name}.old")
    remove_directory(old)
    if target.exists() or target.is_symlink():
        os.rename(target, old)
    os.rename(new, target)
    remove_directory(old)


def remove_directory(path: Path) -> None:
    """Remove a directory with its content, or a link to one without the content. Nothing happens if it does not exist."""
    if path.is_symlink():
        path.unlink()
    shutil.rmtree(path, ignore_errors=True)


def recover_directory(target: Path) -> None:
    """Restore the old directory if a run ended between the two renames of `replace_directory`."""
    old = target.with_name(f".{target.name}.old")
    if old.exists() and not target.exists():
        os.rename(old, target)
