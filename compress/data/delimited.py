"""Tables of separated values (CSV, TSV), read strictly as RFC 4180 says. What it does not allow is refused with its line.

Python's csv module and pandas read what the RFC does not allow by guesses: they join rows behind a stray quotation mark and
shift columns where a row has a field too many.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from compress.runtime.errors import UserError


@dataclass(frozen=True)
class Record:
    """A row of the file."""

    line: int  # in the file, from 1; the first one of several
    fields: list[str]
    raw: str  # as in the file, without the line end


def read_records(text: str, separator: str, place: str, *, quoting: bool, setting: str) -> Iterator[Record]:
    """The records of a table, the header first. Lines end in LF or CR LF; blank lines at the end of the file are left out.

    :param place: the file, for messages.
    :param quoting: whether quotation marks enclose fields. Without it, they are characters like any other.
    :param setting: the setting that changes `quoting`, for messages.
    :raises UserError: a carriage return that ends no line, or quotation marks that RFC 4180 does not allow.
    """
    if "\n" not in text and "\r" in text.rstrip("\r"):
        raise UserError(f"{place}: its lines end in a carriage return (CR) alone; save it with LF or CR LF")
    lines = text.split("\n")
    while lines and lines[-1] in ("", "\r"):
        lines.pop()
    number = 0
    while number < len(lines):
        start = number
        number += 1
        if quoting and opens(lines[start]):
            while number < len(lines) and not opens(lines[number]):
                number += 1
            number += 1
        # Without a line that closes the field, the record is the first line, which is refused.
        raw = lines[start] if number > len(lines) else "\n".join(lines[start:number])
        yield parse_record(raw, start + 1, separator, place, quoting=quoting, setting=setting)


def parse_record(raw: str, line: int, separator: str, place: str, *, quoting: bool, setting: str) -> Record:
    """A record of one or several lines.

    :param raw: as in the file; a carriage return at its end is left out.
    :param line: where it begins in the file, from 1.
    :raises UserError: as `read_records`.
    """
    if quoting and opens(raw):
        raise UserError(f"{place}: line {line}: a quotation mark that no other one closes; {_cure(raw, setting)}")
    raw = raw.removesuffix("\r")
    if quoting and '"' in raw:
        fields = _quoted_fields(raw, separator, place, line, setting)
    else:
        fields = raw.split(separator)
        if "\r" in raw:
            raise UserError(f"{place}: line {line}: a carriage return (CR) inside a field; replace it by a space")
    return Record(line, fields, raw)


def opens(line: str) -> bool:
    """Whether the quotation marks of the line are an odd number. Then a field opens or closes in it."""
    return line.count('"') % 2 == 1


@lru_cache
def _field(separator: str) -> re.Pattern[str]:
    """A field of RFC 4180: quoted, with doubled quotation marks in it, or without any quotation mark."""
    return re.compile(rf'"(?:[^"]++|"")*+"|[^"\r\n{re.escape(separator)}]*+')


def _quoted_fields(raw: str, separator: str, place: str, line: int, setting: str) -> list[str]:
    """The fields of a record, some of which are quoted.

    :param line: of the record, in the file.
    """
    fields, at = [], 0
    while True:
        found = _field(separator).match(raw, at)
        assert found is not None, "the second alternative matches anywhere"
        fields.append(found[0][1:-1].replace('""', '"') if found[0].startswith('"') else found[0])
        if found.end() == len(raw):
            return fields
        if raw[found.end()] != separator:
            line += raw.count("\n", 0, found.start())
            raise UserError(f"{place}: line {line}: {_mistake(raw, found, line)}; {_cure(raw, setting)}")
        at = found.end() + 1


def _mistake(raw: str, found: re.Match[str], line: int) -> str:
    """What is wrong at the end of a field, which begins in this line."""
    behind = raw[found.end() : found.end() + 12].split("\n")[0]
    if found[0].startswith('"'):
        end = line + found[0].count("\n")
        where = f" in line {end}" if end > line else ""
        return (
            f"a quotation mark opens a field, and the next one{where} does not close it, but stands before {behind!r}"
        )
    if behind.startswith("\r"):
        return "a carriage return (CR) inside a field that is not quoted; replace it by a space"
    return f"a quotation mark inside a field that does not begin with one, before {behind[1:]!r}"


def _cure(raw: str, setting: str) -> str:
    if '\\"' in raw:
        return 'inside a quoted field write "" for a quotation mark, not \\"'
    return (
        f'write such a field as "He said ""yes"" to it", or set {setting} = false if no quotation mark encloses a field'
    )
