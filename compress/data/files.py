"""Atomic writes of files and directories, and hashes of their content."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from compress.runtime.files import write_text


def why_no_file(path: Path) -> str:
    """What to say of a path that is not one of a file."""
    if path.is_dir():
        return "is a directory; name the file in it"
    return "is not a file" if path.exists() else "no such file"


def fingerprint(*parts: Any) -> str:
    """SHA-256 of the JSON of `parts`. It identifies the inputs of a stage."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically, also while another run writes it.

    :raises OSError: it cannot be written.
    """
    write_text(path, json.dumps(value, indent=2, sort_keys=False) + "\n")


def replace_directory(new: Path, target: Path) -> None:
    """Replace the directory `target` by the finished directory `new`.

    These are two renames. If the process is killed between them, `recover_directory` restores the old directory.
    """
    old = target.with_name(f".{target.name}.old")
    remove_directory(old)
    if target.is_symlink():
        target.unlink()  # what it leads to belongs to another workspace
    elif target.exists():
        os.rename(target, old)
    os.rename(new, target)
    remove_directory(old)


def remove_directory(path: Path) -> None:
    """Remove a directory with its content, or a link to one without the content. Nothing happens if it does not exist."""
    if path.is_symlink():
        path.unlink()
    shutil.rmtree(path, ignore_errors=True)


def recover_directory(target: Path) -> None:
    """Restore the old directory if a run was killed between the two renames of `replace_directory`."""
    old = target.with_name(f".{target.name}.old")
    if old.exists() and not target.exists():
        os.rename(old, target)
