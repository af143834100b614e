"""Files that are never seen half written."""

from __future__ import annotations

import os
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
