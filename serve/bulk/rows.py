"""The cells of a chunk, read from the file's kind and written in that of the output."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from compress.data.delimited import parse_record
from compress.data.table_files import json_object, wrong_length
from compress.runtime.errors import UserError, one_line
from serve.bulk.chunks import Chunk, from_stream, to_stream
from serve.bulk.layout import QUOTING, Layout

LONGEST_SHOWN = 10_000  # characters of a bad row in the side file
Cells = dict[str, Any]


@dataclass(frozen=True)
class Bad:
    """A row that gets no answer."""

    number: int  # its line, or its row in a Parquet file
    reason: str
    row: str  # as in the file

    def as_line(self, unit: str) -> str:
        """The row as a line of the side file, with its number as `line` or `row_number`.

        :param unit: what the number counts: "line" or "row".
        """
        number = "row_number" if unit == "row" else unit
        return json.dumps({number: self.number, "reason": self.reason, "row": self.row}, ensure_ascii=False)


class RowError(Exception):
    """Why a row is bad."""


def read_cells(chunk: Chunk, row: int, layout: Layout) -> Cells:
    """The cells of a row of a text file, by the name of the column.

    :raises RowError: it is not what its kind of file allows.
    """
    number = chunk.numbers[row]
    try:
        text = chunk.raws[row].decode("utf-8")
    except UnicodeDecodeError as error:
        byte = chunk.raws[row][error.start]
        raise RowError(f"is not UTF-8 (byte 0x{byte:02x}); --encoding names the encoding of the whole file") from None
    try:
        if layout.kind == "jsonl":
            return json_object(text, f": line {number}", whole=False)
        record = parse_record(text, number, layout.separator, "", quoting=layout.quoting, setting=QUOTING)
    except UserError as error:
        reason = re.sub(rf"^: line {number}: ", "", str(error)).removeprefix(": ")
        raise RowError(_with_option(reason)) from None
    names = layout.columns
    if len(record.fields) != len(names) or not record.raw:
        raise RowError(
            _with_option(wrong_length(record, len(names), layout.separator, QUOTING, quoting=layout.quoting))
        )
    if tuple(record.fields) == names:
        raise RowError("the names of the columns once more")
    return dict(zip(names, record.fields, strict=True))


def _with_option(reason: str) -> str:
    """A reader's message that names the option instead of a recipe's setting."""
    return (
        reason.replace(f"set {QUOTING} = false", "give --no-quoting")
        .replace(f"set {QUOTING} = true", f"give {QUOTING}")
        .replace(f"unless {QUOTING} = true", f"unless with {QUOTING}")
    )


def read_chunk(chunk: Chunk, layout: Layout) -> tuple[list[tuple[int, Cells]], list[Bad]]:
    """The sound rows of a chunk, each with its place in the chunk, and the bad ones."""
    batch = from_stream(chunk.batch) if layout.kind == "parquet" else None
    if batch is not None:
        with suppress(ValueError, OverflowError):  # a cell that Python cannot hold; its row is found below
            return list(enumerate(batch.to_pylist())), []
    sound, bad = [], []
    for row in range(len(chunk.numbers)):
        try:
            sound.append((row, read_cells(chunk, row, layout) if batch is None else _cells_of(batch, row)))
        except RowError as error:
            bad.append(bad_row(chunk, row, str(error)))
    return sound, bad


def _cells_of(batch: Any, row: int) -> Cells:
    """The cells of a row of an Arrow record batch.

    :raises RowError: Python has no such value, such as a time in the year 33658, or in nanoseconds where pandas is missing.
    """
    cells = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            cells[name] = column[row].as_py()
        except (ValueError, OverflowError) as error:
            raise RowError(f"column {name!r} holds a value that Python cannot ({one_line(error)})") from None
    return cells


def bad_row(chunk: Chunk, row: int, reason: str, cells: Cells | None = None) -> Bad:
    """A row of a chunk for the side file.

    :param cells: of a Parquet file, which has no line to show. None: they cannot be read.
    """
    shown = "" if cells is None else json.dumps(cells, ensure_ascii=False, default=str)
    if chunk.raws:
        shown = chunk.raws[row].decode("utf-8", "replace").removesuffix("\r")
    return Bad(chunk.numbers[row], reason, shown[:LONGEST_SHOWN])


def text_of(cells: Cells, column: str) -> str:
    """The text of a row.

    :raises RowError: there is none.
    """
    cell = cells.get(column)
    if isinstance(cell, str) and cell.strip():
        return cell
    if cell is None or cell != cell or isinstance(cell, str):
        raise RowError(f"column {column!r} is empty")
    raise RowError(f"column {column!r} holds {repr(cell)[:40]}, not a text")


class Writer:
    """Writes answered rows in the kind of the output.

    :param schema: of Parquet: the Arrow schema of all columns, as bytes. Otherwise None.
    """

    def __init__(self, layout: Layout, schema: bytes | None = None) -> None:
        self.layout, self._names = layout, set(layout.columns)
        self._schema: Any = None
        if schema is not None:
            import pyarrow

            self._schema = pyarrow.ipc.read_schema(pyarrow.py_buffer(schema))

    def header(self) -> bytes:
        """What stands before the first row."""
        return self._delimited(list(self.layout.columns)) if self.layout.delimited else b""

    def write(self, rows: Sequence[Cells]) -> tuple[bytes, dict[int, str]]:
        """The rows as bytes to put behind those of the chunk before, or as an Arrow stream.

        :returns: the bytes; and why rows are not in them, by their place in `rows`.
        """
        if self._schema is not None:
            return self._write_arrow(rows)
        lines, refused = [], {}
        for place, cells in enumerate(rows):
            try:
                lines.append(self._line(cells))
            except RowError as error:
                refused[place] = str(error)
        return b"".join(lines), refused

    def _line(self, cells: Cells) -> bytes:
        if self.layout.kind == "jsonl":
            try:
                return (json.dumps(cells, ensure_ascii=False, allow_nan=False, default=_plain) + "\n").encode("utf-8")
            except (ValueError, TypeError) as error:
                raise RowError(f"cannot be written as JSON ({str(error).splitlines()[0]})") from None
        self._check_names(cells)
        return self._delimited([_as_text(cells.get(name)) for name in self.layout.columns])

    def _check_names(self, cells: Cells) -> None:
        if not cells.keys() <= self._names:
            other = next(name for name in cells if name not in self._names)
            raise RowError(
                f"has a column {other!r} that the first rows have not; write .jsonl, or choose with --columns"
            )

    def _write_arrow(self, rows: Sequence[Cells]) -> tuple[bytes, dict[int, str]]:
        import pyarrow

        faults = (
            pyarrow.ArrowInvalid,
            pyarrow.ArrowTypeError,
            pyarrow.ArrowNotImplementedError,
            OverflowError,
            TypeError,
        )

        def array(cells: list[Any], column: Any) -> Any:
            return pyarrow.array(cells, column.type)

        refused: dict[int, str] = {}
        try:
            for cells in rows:
                self._check_names(cells)
            arrays = [array([cells.get(column.name) for cells in rows], column) for column in self._schema]
        except (RowError, *faults):
            for place, cells in enumerate(rows):
                try:
                    self._check_names(cells)
                    for column in self._schema:
                        array([cells.get(column.name)], column)
                except RowError as error:
                    refused[place] = str(error)
                except faults:
                    shown = repr(cells.get(column.name))[:40]
                    refused[place] = f"column {column.name!r} holds {shown}, and the first rows hold {column.type}"
            kept = [cells for place, cells in enumerate(rows) if place not in refused]
            arrays = [array([cells.get(column.name) for cells in kept], column) for column in self._schema]
        return to_stream(pyarrow.record_batch(arrays, schema=self._schema)), refused

    def _delimited(self, cells: list[str]) -> bytes:
        separator = self.layout.separator
        if not self.layout.quoting:
            if any(separator in cell or "\n" in cell or "\r" in cell for cell in cells):
                raise RowError("holds a separator or a line end, which this kind of table cannot; write .csv or .jsonl")
            return (separator.join(cells) + "\n").encode("utf-8")
        sink = io.StringIO()
        # The module does not quote a field for a carriage return alone (before Python 3.13).
        every = any("\r" in cell for cell in cells)
        csv.writer(
            sink, delimiter=separator, lineterminator="\n", quoting=csv.QUOTE_ALL if every else csv.QUOTE_MINIMAL
        ).writerow(cells)
        return sink.getvalue().encode("utf-8")


def _as_text(cell: Any) -> str:
    """A cell in a table of separated values."""
    if isinstance(cell, str):
        return cell
    if cell is None:
        return ""
    if isinstance(cell, bool | list | dict):
        return json.dumps(cell, ensure_ascii=False, default=_plain)
    return str(_plain(cell)) if not isinstance(cell, int | float) else repr(cell)


def _plain(cell: Any) -> Any:
    """A cell that JSON does not have, such as a date or a decimal number, as its text."""
    if isinstance(cell, bytes):
        raise TypeError("a column of bytes; leave it out with --columns")
    return cell.isoformat() if hasattr(cell, "isoformat") else str(cell)
