"""How a table is laid out: its kind, its columns, and what separates fields. Found from the start of the file."""

from __future__ import annotations

import codecs
import io
import zlib
from dataclasses import dataclass, replace
from itertools import product
from pathlib import PurePosixPath
from typing import IO, Any

from compress.data.delimited import parse_record
from compress.data.table_files import SEPARATORS, USUAL_SEPARATORS, json_object, table_kind
from compress.data.text_files import likely_encoding, refuse_other_kinds
from compress.recipe.sections.data import JSON_LINES
from compress.runtime.errors import UserError
from serve.bulk.lines import Line, joined_records, lines_of
from serve.bulk.source import open_input

HEAD_BYTES = 1 << 20  # what the layout is found from
ENOUGH_SOUND = 0.9  # share of the rows; the others are bad rows of a table in the usual layout
QUOTING = "--quoting"  # the option, for messages


@dataclass(frozen=True)
class Layout:
    """The kind of a table and how it is written."""

    kind: str  # csv, tsv, jsonl or parquet
    zipped: bool = False  # a .gz file
    columns: tuple[str, ...] = ()  # all that there are; of JSONL, those of the first rows
    separator: str = ","
    quoting: bool = True
    encoding: str | None = None  # None: UTF-8
    doubts: tuple[str, ...] = ()  # what a person should check, a line each

    @property
    def suffix(self) -> str:
        """The end of the name of such a file."""
        return f".{self.kind}{'.gz' if self.zipped else ''}"

    @property
    def delimited(self) -> bool:
        """Whether it is of separated values, with a header."""
        return self.kind in ("csv", "tsv")


def named_layout(place: str) -> Layout | None:
    """The layout that the name of a file stands for, without its columns. None: it is not the name of a table."""
    path = PurePosixPath(place)
    suffix = table_kind(path)
    zipped = path.suffix.lower() == ".gz"
    if suffix in SEPARATORS:
        return Layout(suffix[1:], zipped, separator=SEPARATORS[suffix], quoting=suffix == ".csv")
    if suffix in JSON_LINES:
        return Layout("jsonl", zipped)
    return Layout("parquet") if suffix == ".parquet" else None


def find_layout(
    place: str, wanted: dict[str, str], *, separator: str | None, quoting: bool | None, encoding: str | None
) -> Layout:
    """The layout of a table.

    :param wanted: columns that it must have, by the command's option that names them.
    :param separator: None: found, as are `quoting` and `encoding`.
    :raises UserError: it is no table, is empty, or has not the columns.
    """
    layout = named_layout(place)
    if layout is None:
        raise UserError(f"{place}: unknown kind of table; use .csv, .tsv, .jsonl or .parquet (text kinds may be .gz)")
    with open_input(place) as file:
        if layout.kind == "parquet":
            layout = replace(layout, columns=tuple(open_parquet(file, place).schema_arrow.names))
        else:
            layout = _of_text(place, file, layout, wanted, separator=separator, quoting=quoting, encoding=encoding)
    _check_columns(layout, wanted, place)
    return layout


def open_parquet(file: IO[bytes], place: str) -> Any:
    """An open Parquet file.

    :raises UserError: it is none, or pyarrow is missing.
    """
    parquet = import_parquet(place)
    try:
        return parquet.ParquetFile(file)
    except (ValueError, OSError) as error:
        raise UserError(f"{place}: cannot be read as .parquet ({str(error).splitlines()[0]})") from None


def import_parquet(place: str) -> Any:
    """The module `pyarrow.parquet`.

    :raises UserError: it is not installed.
    """
    try:
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise UserError(
            f"{place}: Parquet needs the package pyarrow: pip install pyarrow, or use .csv or .jsonl"
        ) from None
    return parquet


def unzipped(file: IO[bytes], *, zipped: bool) -> IO[bytes]:
    """The stream of a text file, uncompressed if it is a .gz file."""
    import gzip

    return gzip.GzipFile(fileobj=file) if zipped else file  # type: ignore[return-value]


def _of_text(place: str, file: IO[bytes], layout: Layout, wanted: dict[str, str], **given: Any) -> Layout:
    try:
        head = unzipped(file, zipped=layout.zipped).read(HEAD_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{place}: cannot be read ({error})") from None
    refuse_other_kinds(head, place)
    whole = len(head) < HEAD_BYTES
    encoding = given["encoding"]
    if encoding is not None:
        try:
            "".encode(encoding)  # what `codecs.lookup` finds may be none of texts, such as base64
        except LookupError:
            raise UserError(f"--encoding {encoding}: no such encoding; examples are utf-8, utf-16, cp1252") from None
        if codecs.lookup(encoding).name == "utf-8":
            encoding = None
    else:
        # A character that the head cuts would look like a mistake.
        encoding = likely_encoding(head if whole else head[: head.rfind(b"\n") + 1] or head)
        if encoding is not None:
            doubt = f"{place} is not UTF-8 and was read as {encoding}: are all letters right? --encoding names another"
            layout = replace(layout, doubts=(doubt,))
    layout = replace(layout, encoding=encoding)
    lines = list(lines_of(io.BytesIO(head), encoding, place, cut=not whole))
    if not whole:
        lines = lines[:-1] or lines  # the last one is cut
    if len(lines) == 1 and whole and b"\r" in lines[0][1].rstrip(b"\r"):
        raise UserError(f"{place}: its lines end in a carriage return (CR) alone; save it with LF or CR LF")
    if not any(raw.strip() for _, raw in lines):
        raise UserError(f"{place}: the table is empty")
    if layout.kind == "jsonl":
        return replace(layout, columns=_json_columns(lines, place))
    return _delimited(lines, layout, wanted, given["separator"], given["quoting"], place)


def _json_columns(lines: list[Line], place: str) -> tuple[str, ...]:
    names: dict[str, None] = {}
    wrong: UserError | None = None
    for number, raw in lines:
        if raw.strip():
            try:
                row = json_object(raw.decode("utf-8", "replace"), f"{place}: line {number}", whole=len(lines) == 1)
            except UserError as error:
                wrong = wrong or error
            else:
                names.update(dict.fromkeys(row))
    if not names and wrong is not None:
        raise wrong
    return tuple(names)


def _delimited(
    lines: list[Line], layout: Layout, wanted: dict[str, str], separator: str | None, quoting: bool | None, place: str
) -> Layout:
    """Take the usual layout if nearly all rows are sound in it; else that one of several in which most are."""
    best: tuple[tuple[bool, float], Layout] | None = None
    usual = layout
    separators = dict.fromkeys([layout.separator, *USUAL_SEPARATORS]) if separator is None else [separator]
    quotings = [layout.quoting, not layout.quoting] if quoting is None else [quoting]
    for one, quoted in product(separators, quotings):
        tried = replace(layout, separator=one, quoting=quoted)
        header, sound = _soundness(lines, tried)
        rank = (set(wanted.values()) <= set(header), sound)
        if best is None or rank > best[0]:
            best = (rank, replace(tried, columns=tuple(header)))
        if rank >= (True, ENOUGH_SOUND):
            break
    assert best is not None, "some layout was tried"
    found = best[1]
    if (found.separator, found.quoting) != (usual.separator, usual.quoting) and separator is None and quoting is None:
        marks = "with" if found.quoting else "without"
        doubt = f"{place} was read with the separator {found.separator!r} and {marks} quotation marks around fields"
        found = replace(found, doubts=(*found.doubts, doubt))
    return found


def _soundness(lines: list[Line], layout: Layout) -> tuple[list[str], float]:
    """The header, and the share of rows that have as many fields as it has."""
    header: list[str] = []
    rows = sound = 0
    for number, raw in joined_records(iter(lines), layout.separator, quoting=layout.quoting):
        try:
            text = raw.decode("utf-8", "replace")
            fields = parse_record(text, number, layout.separator, "", quoting=layout.quoting, setting=QUOTING).fields
        except UserError:
            fields = []
        if number == 1:
            header = fields
        elif raw.strip():
            rows, sound = rows + 1, sound + (len(fields) == len(header))
    return header, sound / rows if rows else 1.0


def _check_columns(layout: Layout, wanted: dict[str, str], place: str) -> None:
    names = list(layout.columns)
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"{place}: two columns are called {twice!r}; give one of them another name")
    for option, column in wanted.items():
        if column not in names:
            there = ", ".join(repr(name[:60]) for name in names[:20])
            raise UserError(f"{place}: no column {column!r}; choose one of {there} with {option}")
