"""The lines of a text file in a stream, and the records of separated values, which may be of several lines."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Iterator
from typing import IO

from compress.data.delimited import parse_record
from compress.runtime.errors import UserError

BLOCK_BYTES = 1 << 20  # what is read at once
LONGEST_LINE = 64 << 20  # bytes; what is longer is no table of texts
LONGEST_RECORD = 1 << 20  # bytes in which a quotation mark must be closed
Line = tuple[int, bytes]  # its number in the file, from 1; in UTF-8, without the line feed


def lines_of(stream: IO[bytes], encoding: str | None, place: str, *, cut: bool = False) -> Iterator[Line]:
    """The lines of a stream without its byte-order mark. Those of another encoding come as UTF-8.

    :param encoding: None: UTF-8, which is not checked here.
    :param cut: whether the stream is the start of a file, which may end within a character.
    :raises UserError: a line is too long, or a byte is in no character of the encoding.
    """
    decoder = None if encoding is None else codecs.getincrementaldecoder(encoding)()
    number, rest = 1, b""
    while block := stream.read(BLOCK_BYTES):
        block = _as_utf8(decoder, block, place, number)
        lines = (rest + block).split(b"\n")
        rest = lines.pop()
        if len(rest) > LONGEST_LINE:
            raise UserError(
                f"{place}: line {number + len(lines)}: longer than {LONGEST_LINE >> 20} MiB; is it a table?"
            )
        for line in lines:
            yield number, line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            number += 1
    if not cut:
        rest += _as_utf8(decoder, b"", place, number, last=True)
    if rest:
        yield number, rest.removeprefix(codecs.BOM_UTF8) if number == 1 else rest


def joined_records(lines: Iterator[Line], separator: str, *, quoting: bool) -> Iterator[Line]:
    """The records of separated values, with the number of their first line. Blank lines at the end of the file are left out.

    A line whose quotation mark is closed nowhere, or in a way that RFC 4180 does not allow, comes alone, and the lines after it are
    records again. So a stray quotation mark costs its own row and no other.
    """
    blank = range(0)  # the numbers of blank lines, until it is known whether the file goes on
    for number, raw in _joined(lines, separator) if quoting else lines:
        if raw.strip(b"\r"):
            yield from ((before, b"") for before in blank)
            blank = range(0)
            yield number, raw
        else:
            blank = range(blank.start if blank else number, number + 1)


def _joined(lines: Iterator[Line], separator: str) -> Iterator[Line]:
    ahead: deque[Line] = deque()  # lines that were read and belong to no record yet
    while (first := ahead.popleft() if ahead else next(lines, None)) is not None:
        if first[1].count(b'"') % 2 == 0:
            yield first
            continue
        gathered, length, closed = [first], len(first[1]), False
        while not closed and length < LONGEST_RECORD:
            line = ahead.popleft() if ahead else next(lines, None)
            if line is None:
                break
            gathered.append(line)
            length += len(line[1]) + 1
            closed = line[1].count(b'"') % 2 == 1
        raw = b"\n".join(line for _, line in gathered)
        if closed and _is_record(raw, separator):
            yield first[0], raw
        else:
            yield first
            ahead.extendleft(reversed(gathered[1:]))


def _is_record(raw: bytes, separator: str) -> bool:
    try:
        parse_record(raw.decode("utf-8", "replace"), 1, separator, "", quoting=True, setting="")
    except UserError:
        return False
    return True


def _as_utf8(
    decoder: codecs.IncrementalDecoder | None, block: bytes, place: str, line: int, *, last: bool = False
) -> bytes:
    if decoder is None:
        return block
    try:
        return decoder.decode(block, last).encode("utf-8")
    except UnicodeError as error:  # UTF-16 without its mark is of this class
        fault = str(error)
        if isinstance(error, UnicodeDecodeError):
            fault = f"is not in {error.encoding} ({error.reason})"
        raise UserError(f"{place}: after line {line}: {fault}; name its encoding with --encoding") from None
