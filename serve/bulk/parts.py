"""The parts of the output: each is written once and whole, with a record of what is in it, so that a killed job carries on.

Nothing here needs a rename, a lock or a put-if-absent, which not every storage has. It needs that a file is seen whole or not at all,
and that whoever reads after a write sees it:

1. `job.json` says what the output depends on, and who writes it: a number that each run draws for itself.
2. Part 7 is written under its name, and after it its record. A part counts if its record is there. If a run dies between the two,
   the next one makes the part again, to the same bytes in the same place.
3. Before each part a run looks whether `job.json` still has its number. If another run has taken over, it stops. So of two runs
   one is left, and the part that the other had under way has the bytes that it would have had.
4. At the end the sizes of all parts are compared with their records; then `job.json` is removed, and after it the records.
"""

from __future__ import annotations

import io
import json
import re
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

from compress.runtime.errors import UserError
from serve.bulk.chunks import from_stream
from serve.bulk.layout import Layout, import_parquet
from serve.bulk.rows import Bad, Writer
from serve.bulk.storage import folder_and_name
from serve.bulk.worker import Done

JOB, BAD, RECORDS = "job.json", "bad.jsonl", "_job"
OWN_OF_DIRECTORY = re.compile(r"\.?(part-|_)")  # the start of the names of what a job writes there
OWN_OF_FILE = re.compile(r"\.?(part-|job\.json|\d+\.json)")
WRITER = "writer"  # in `job.json`: the run that writes the output


class Part:
    """A part in the making, or the record of a finished one."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.rows = self.written = self.bytes = 0
        self.bad: list[Bad] = []
        self.labels: Counter[str] = Counter()
        self.models: Counter[str] = Counter()
        self.data: list[bytes] = []

    def add(self, done: Done) -> None:
        """Put the answers of a chunk behind those that are there."""
        self.rows, self.written = self.rows + done.rows, self.written + done.written
        self.bad += done.bad
        self.labels += done.labels
        self.models += done.models
        self.data.append(done.data)

    def record(self) -> bytes:
        """What is kept of it beside its rows."""
        bad = [[one.number, one.reason, one.row] for one in self.bad]
        kept = {"rows": self.rows, "written": self.written, "bytes": self.bytes, "bad": bad}
        kept |= {"labels": self.labels, "models": self.models}
        return json.dumps(kept, ensure_ascii=False).encode("utf-8")

    @classmethod
    def from_record(cls, number: int, data: bytes) -> Part:
        """The record of a finished part."""
        kept, part = json.loads(data), cls(number)
        part.rows, part.written, part.bytes = kept["rows"], kept["written"], kept["bytes"]
        part.labels, part.models = Counter(kept["labels"]), Counter(kept["models"])
        part.bad = [Bad(*one) for one in kept["bad"]]
        return part


class Output:
    """Where the parts go: into a directory, or into one file that is put together when all parts are there.

    While the job runs, `OUT.parts` (of a file) or `OUT/_job` holds what it needs to carry on.

    :param place: a file if its name is that of a table, else a directory.
    :param single: whether it is a file.
    """

    def __init__(self, place: str, layout: Layout, schema: bytes | None, *, single: bool, unit: str) -> None:
        self.place, self.layout, self.schema, self.single, self.unit = place.rstrip("/"), layout, schema, single, unit
        self._parent, self._name = folder_and_name(self.place)
        self._parts = self._parent.inside(f"{self._name}.parts" if single else self._name)
        self._records = self._parts if single else self._parts.inside(RECORDS)
        self._writer = uuid.uuid4().hex
        self.bad_place = f"{self.place}.{BAD}" if single else f"{self.place}/_{BAD}"

    def locked(self) -> Any:
        """A context in which no other process of this machine writes the same output.

        :raises UserError: one does.
        """
        return self._parent.lock(f".{self._name}.lock")

    def begin(self, job: dict[str, Any], *, force: bool) -> list[Part]:
        """Take up an unfinished job, or begin one.

        :param job: all that the output depends on.
        :param force: begin anew and replace the output.
        :returns: the records of the parts that are finished.
        :raises UserError: the output exists, or an unfinished one is of another job.
        """
        begun = self._records.read(JOB)
        before = None if begun is None or force else json.loads(begun)
        if before is None:
            if not force and self._exists():
                raise UserError(f"{self.place}: exists; choose another place, or replace it with --force")
            self._check_ours()
            self._records.remove(JOB)  # first: a run that dies here must not leave records whose parts are gone
            self._parts.remove_all()
        elif changed := next((key for key in job if job[key] != before.get(key)), None):
            raise UserError(
                f"{self.place}: an unfinished job is there that had another {changed.replace('_', ' ')}; give the same as then "
                "to carry on, or begin anew with --force"
            )
        self._records.write(JOB, json.dumps(job | {WRITER: self._writer}, indent=1).encode("utf-8"))
        return [] if before is None else list(self._finished())

    def write(self, part: Part) -> None:
        """Write a part, and then its record.

        :raises UserError: another run has taken over.
        """
        self._check_writer()
        if self.layout.kind == "parquet":
            data = self._parquet([from_stream(one) for one in part.data])
        else:
            data = b"".join([b"" if self.single else self._header(), *part.data])
            if self.layout.zipped:
                data = _zipped(data)
        part.bytes = len(data)
        self._parts.write(self._part_name(part.number), data)
        self._records.write(_record_name(part.number), part.record())
        part.data.clear()  # memory must not grow with the rows

    def write_bad(self, bad: list[Bad]) -> None:
        """Write the side file; without bad rows there is none."""
        folder, name = folder_and_name(self.bad_place)
        if bad:
            folder.write(name, "".join(f"{one.as_line(self.unit)}\n" for one in bad).encode("utf-8"))
        else:
            folder.remove(name)

    def finish(self, parts: list[Part]) -> None:
        """Put the file together, and remove what only an unfinished job needs.

        :raises UserError: another run has taken over, or a part is not what this job wrote.
        """
        self._check_writer()
        self._check_parts(parts)
        self.write_bad([one for part in parts for one in part.bad])
        if self.single:
            with self._parent.open_new(self._name) as file:
                self._join(file, len(parts))
        self._records.remove(JOB)  # first, since without it the rest is known to be left over
        self._records.remove_all()

    def _exists(self) -> bool:
        """Whether the output is there. A folder with nothing in it, or with what a job that was killed at once has left, is not."""
        return self._parent.exists(self._name) and (self.single or not self._parts.sizes().keys() <= {RECORDS})

    def _check_ours(self) -> None:
        """See that a directory that is to be removed holds only what a job writes there."""
        place = f"{self.place}.parts" if self.single else self.place
        for name in self._parts.sizes():
            if not (OWN_OF_FILE if self.single else OWN_OF_DIRECTORY).match(name):
                raise UserError(f"{place}: holds {name}, which no bulk job wrote; choose another name with --out")

    def _check_writer(self) -> None:
        job = self._records.read(JOB)
        if job is None or json.loads(job).get(WRITER) != self._writer:
            raise UserError(
                f"{self.place}: another run writes this output now; wait for it, or stop it and run the same command again"
            )

    def _check_parts(self, parts: list[Part]) -> None:
        """See that the parts are there, and no others, each with as many bytes as were written."""
        names = {self._part_name(part.number): part.bytes for part in parts}
        found = {name: size for name, size in self._parts.sizes().items() if name.startswith("part-")}
        if wrong := sorted(dict(names.items() ^ found.items())):
            raise UserError(
                f"{self.place}: {wrong[0]} was removed, or is not as this job wrote it; begin anew with --force"
            )

    def _finished(self) -> Iterator[Part]:
        number = 0
        while (record := self._records.read(_record_name(number))) is not None:
            yield Part.from_record(number, record)
            number += 1

    def _join(self, file: Any, parts: int) -> None:
        if self.layout.kind == "parquet":
            parquet = import_parquet(self.place)
            with parquet.ParquetWriter(file, self._arrow_schema()) as writer:
                for number in range(parts):
                    writer.write_table(parquet.read_table(io.BytesIO(self._read(number))))
            return
        header = self._header()
        file.write(_zipped(header) if self.layout.zipped and header else header)
        for number in range(parts):
            file.write(self._read(number))

    def _read(self, number: int) -> bytes:
        data = self._parts.read(self._part_name(number))
        if data is None:
            raise UserError(f"{self.place}: its part {self._part_name(number)} was removed; begin anew with --force")
        return data

    def _header(self) -> bytes:
        return Writer(self.layout).header()

    def _part_name(self, number: int) -> str:
        return f"part-{number:05d}{self.layout.suffix}"

    def _arrow_schema(self) -> Any:
        import pyarrow

        return pyarrow.ipc.read_schema(pyarrow.py_buffer(self.schema))

    def _parquet(self, batches: list[Any]) -> bytes:
        import pyarrow

        sink = io.BytesIO()
        import_parquet(self.place).write_table(pyarrow.Table.from_batches(batches, self._arrow_schema()), sink)
        return sink.getvalue()


def _record_name(number: int) -> str:
    return f"{number:05d}.json"


def _zipped(data: bytes) -> bytes:
    """A gzip member; several behind each other are a .gz file too. Without the time, so that a part is the same in every run."""
    import gzip

    return gzip.compress(data, mtime=0)
