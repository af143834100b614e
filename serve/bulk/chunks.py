"""A table in chunks: what a worker answers at once. The reader splits the file; the worker reads the cells."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from compress.runtime.errors import UserError, one_line
from serve.bulk.layout import Layout, open_parquet, unzipped
from serve.bulk.lines import joined_records, lines_of
from serve.bulk.source import open_input, size

CHUNK_ROWS, CHUNK_BYTES = 512, 1 << 20  # a chunk ends at the first of them
PART_BYTES = 64 << 20  # of input; a part of long texts ends there, since it is held in memory


@dataclass
class Chunk:
    """Some rows that follow each other, as they are in the file."""

    part: int  # of the output, to which their answers belong
    numbers: list[int] = field(default_factory=list)  # the line or row of each
    raws: list[bytes] = field(default_factory=list)  # of text files: the records
    batch: bytes = b""  # of Parquet: an Arrow stream


class Reader:
    """Reads a table once, from the start, with bounded memory.

    :param part_rows: rows of a part of the output, those that turn out bad included.
    :param columns: those to read of a Parquet file, which holds each for itself. None: all. Of other kinds all are read.
    """

    def __init__(self, place: str, layout: Layout, part_rows: int, columns: list[str] | None = None) -> None:
        self.place, self.layout, self.part_rows, self.columns = place, layout, part_rows, columns
        self._file: IO[bytes] = open_input(place)
        self._size = size(place)
        self._row, self._rows = 0, 0  # read so far, and in the whole file, if that is known

    @property
    def share(self) -> float | None:
        """The share of the file that has been read; None: its size is not known."""
        if self._file.closed:
            return 1.0
        if self._rows:
            return self._row / self._rows
        return min(1.0, self._file.tell() / self._size) if self._size else None

    def chunks(self) -> Iterator[Chunk]:
        """The rows of the table in their order. They are the same in every run.

        :raises UserError: the file cannot be read to its end.
        """
        with self._file:
            try:
                yield from self._of_parquet() if self.layout.kind == "parquet" else self._of_text()
            except (OSError, EOFError, zlib.error) as error:
                raise UserError(f"{self.place}: cannot be read ({one_line(error)})") from None

    def chunks_from(self, part: int) -> Iterator[Chunk]:
        """`chunks`, without those of the parts before one."""
        return (chunk for chunk in self.chunks() if chunk.part >= part)

    def _of_text(self) -> Iterator[Chunk]:
        layout = self.layout
        lines = lines_of(unzipped(self._file, zipped=layout.zipped), layout.encoding, self.place)
        if layout.delimited:
            lines = joined_records(lines, layout.separator, quoting=layout.quoting)
            next(lines, None)  # the header
        else:
            lines = (line for line in lines if line[1].strip())
        chunk, in_chunk, rows, in_part = Chunk(0), 0, 0, 0
        for number, raw in lines:
            chunk.numbers.append(number)
            chunk.raws.append(raw)
            in_chunk, in_part, rows = in_chunk + len(raw), in_part + len(raw), rows + 1
            part_ends = rows >= self.part_rows or in_part >= PART_BYTES
            if part_ends or len(chunk.raws) >= CHUNK_ROWS or in_chunk >= CHUNK_BYTES:
                yield chunk
                chunk, in_chunk = Chunk(chunk.part + part_ends), 0
                if part_ends:
                    rows = in_part = 0
        if chunk.numbers:
            yield chunk

    def _of_parquet(self) -> Iterator[Chunk]:
        file = open_parquet(self._file, self.place)
        self._rows = file.metadata.num_rows
        part, in_part, rows = 0, 0, 0
        step = min(CHUNK_ROWS, self.part_rows)
        for batch in self._batches(file):
            for start in range(0, batch.num_rows, step):
                piece = batch.slice(start, step)
                numbers = list(range(self._row + 1, self._row + 1 + piece.num_rows))
                self._row += piece.num_rows
                yield Chunk(part, numbers, batch=to_stream(piece))
                rows, in_part = rows + piece.num_rows, in_part + piece.nbytes
                if rows >= self.part_rows or in_part >= PART_BYTES:
                    part, rows, in_part = part + 1, 0, 0

    def _batches(self, file: Any) -> Iterator[Any]:
        """The record batches of a Parquet file, one row group after the other.

        A reader of all row groups keeps what it has read of each until the last.
        """
        size = min(8 * CHUNK_ROWS, self.part_rows)
        for group in range(file.num_row_groups):
            yield from file.iter_batches(batch_size=size, row_groups=[group], columns=self.columns)


def to_stream(batch: Any) -> bytes:
    """An Arrow record batch as bytes."""
    import pyarrow

    sink = io.BytesIO()
    with pyarrow.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


def from_stream(data: bytes) -> Any:
    """The record batch of `to_stream`."""
    import pyarrow

    with pyarrow.ipc.open_stream(data) as reader:
        return reader.read_next_batch()
