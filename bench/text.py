"""Figures and tables as text, and the files of measurements."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from compress.runtime.errors import UserError
from compress.runtime.files import write_text

if TYPE_CHECKING:
    from bench.bootstrap import Interval  # scipy, which whoever only sends load may not have

MISSING = "–"
Measured = TypeVar("Measured", bound=BaseModel)


def check_out(directory: Path) -> None:
    """See that the files of a measurement can be written, before it begins. Nothing is made.

    :raises UserError: the directory, or the one in which it would be made, is none or cannot be written.
    """
    there = next(one for one in (directory.absolute(), *directory.absolute().parents) if one.exists())
    if not there.is_dir():
        raise UserError(f"--out {directory}: {there} is not a directory; choose another place")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"--out {directory}: this user cannot write in {there}; choose another place")


def write_samples(path: Path, content: dict[str, Any]) -> None:
    """Write JSON in one step, each list of numbers in a line of its own: a report has thousands of samples."""
    text = json.dumps(content, indent=1, ensure_ascii=False)
    write_text(path, re.sub(r"\[\n[\d\s.,e-]+\]", lambda match: " ".join(match[0].split()), text) + "\n")


def read_samples(place: Path, name: str, kind: type[Measured], command: str) -> Measured:
    """A file of `write_samples`, or the one in a directory.

    :param name: of the file in a directory.
    :param kind: the model of its content.
    :param command: what writes such files, for messages.
    :raises UserError: there is none, or the file is something else.
    """
    file = place / name if place.is_dir() else place
    try:
        return kind.model_validate_json(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); `{command}` writes a {name}") from None
    except ValueError:
        raise UserError(f"{file}: not a report of `{command}`; give its {name} or the directory") from None


def significant(value: float | None) -> str:
    """Three significant digits, without an exponent; below 0.1 fewer, since there are three places after the point."""
    if value is None:
        return MISSING
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def millions(count: int | None) -> str:
    """A number of weights in millions, such as `4.14 M`."""
    return MISSING if count is None else f"{significant(count / 1e6)} M"


def in_brackets(interval: Interval, scale: float = 1.0, digits: int | None = None) -> str:
    """The ends of an interval, such as ` [0.31 to 0.52]`; nothing if it is not known.

    :param scale: 100 for percent.
    :param digits: after the point; None: three significant ones.
    """
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return ""
    ends = [end * scale for end in (interval.low, interval.high)]
    low, high = (significant(end) if digits is None else f"{end:.{digits}f}" for end in ends)
    return f" [{low} to {high}]"


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table. The first column is aligned left, the others right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
