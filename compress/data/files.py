"""JSON files, and hashes of content."""

from __future__ import annotations

import hashlib
import json
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
