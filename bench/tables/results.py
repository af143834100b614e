"""The results of a table, kept as evidence in `bench/results/TABLE.json`: one line for each metric of each finished run."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from bench.tables.table import Run, Table
from compress.runtime.errors import UserError
from compress.runtime.files import write_text

Id = tuple[str, str, int, str]  # method, data, seed, metric


class Entry(BaseModel):
    """One metric of one finished run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    table: str
    method: str
    data: str
    seed: int
    metric: str
    value: float  # a fraction of 1
    split: str  # the metric is of this split
    agreement: float | None = (
        None  # share of the split's texts with the same label as from the teacher; None: not counted
    )
    distance: float | None = (
        None  # the mean KL divergence of the student's probabilities from the teacher's on the split, in nats; None: not measured
    )
    seconds: float | None  # time of the student's own stages; in a teacher's row, of the teacher's
    parameters: int | None
    latency_ms: float | None = None  # p50 at batch 1, tokenisation included, one thread; None: not measured
    latency_of: str | None = None  # precision and machine of the timing
    machine: str  # of the training
    versions: dict[str, str]
    commit: str | None  # "+" at the end: there were uncommitted changes
    date: str  # UTC
    key: str  # hash of all that the value depends on: data, recipe, version of this project

    @property
    def id(self) -> Id:
        """The key of the entry: there is one for each of these."""
        return self.method, self.data, self.seed, self.metric

    @property
    def run(self) -> Run:
        """The run that gave this value."""
        return Run(method=self.method, data=self.data, seed=self.seed)


Entries = dict[Id, Entry]


class Results:
    """The results file of a table. Several commands may write to it at once: each changes its own entries only."""

    def __init__(self, table: Table, directory: Path) -> None:
        self.table = table
        self.directory = directory
        self.path = directory / f"{table.name}.json"

    def read(self) -> Entries:
        """All entries; empty if there is no file yet.

        :raises UserError: the file is damaged.
        """
        try:
            entries = [Entry.model_validate(entry) for entry in json.loads(self.path.read_text(encoding="utf-8"))]
        except FileNotFoundError:
            return {}
        except (OSError, TypeError, ValueError) as error:  # pydantic's and json's errors are ValueErrors
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
            raise UserError(f"{self.path}: cannot be read as results ({reason}); restore it or remove it") from None
        return {entry.id: entry for entry in entries}

    def of(self, run: Run) -> list[Entry]:
        """The entries of a run, one for each metric; fewer if the run is not finished."""
        entries = self.read()
        ids = [(run.method, run.data, run.seed, metric) for metric in self.table.metrics_of(run)]
        return [entries[id_] for id_ in ids if id_ in entries]

    def put(self, new: list[Entry]) -> None:
        """Add entries. An entry of the same run and metric is replaced.

        :raises UserError: the file is damaged, or the directory cannot be written.
        """
        self._change(lambda entries: entries.update({entry.id: entry for entry in new}))

    def _change(self, change: Callable[[Entries], None]) -> None:
        """Read, change and write while other processes wait. The entries are written in the order of the table."""
        with _locked(self.directory):
            entries = self.read()
            change(entries)
            lines = [json.dumps(entry.model_dump(), ensure_ascii=False) for entry in self._sorted(entries)]
            write_text(self.path, "[\n" + ",\n".join(lines) + "\n]\n")

    def _sorted(self, entries: Entries) -> list[Entry]:
        """In the table's order. Entries that the table no longer has come last: evidence is never deleted."""
        methods, data = list(self.table.method), list(self.table.data)

        def place(names: list[str], name: str) -> tuple[int, str]:
            return (names.index(name), "") if name in names else (len(names), name)

        return sorted(
            entries.values(),
            key=lambda e: (place(methods, e.method), place(data, e.data), e.seed, e.metric.startswith("int8_")),
        )


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Lock the directory itself. A lock file would be in the way among the committed results."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        handle = os.open(directory, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"{directory}: cannot be written ({error.strerror}); choose another with --results") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
