"""The evidence: `bench/results/TABLE.json`, one line for each metric of each finished run."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from bench.report import write_text
from bench.tables.table import Run, Table
from compress.runtime.errors import UserError

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
    split: str  # that the metric is of
    agreement: float | None = None  # share of its texts that get the teacher's label; None: not measured
    seconds: float | None  # that the student's own stages took (the teacher's, in a teacher's row)
    parameters: int | None
    latency_ms: float | None = None  # p50 at batch 1, tokenisation included, one thread; None: not measured
    latency_of: str | None = None  # what was timed, and where
    machine: str  # that trained
    versions: dict[str, str]
    commit: str | None  # "+" at the end: with uncommitted changes
    date: str  # UTC
    key: str  # identity of everything that the value depends on: data, recipe, code version

    @property
    def id(self) -> Id:
        """What there is one entry for."""
        return self.method, self.data, self.seed, self.metric

    @property
    def run(self) -> Run:
        """The run that it comes from."""
        return Run(method=self.method, data=self.data, seed=self.seed)


Entries = dict[Id, Entry]


class Results:
    """The results file of a table. Two invocations may write to it: each changes its own entries only."""

    def __init__(self, table: Table, directory: Path) -> None:
        self.table = table
        self.directory = directory
        self.path = directory / f"{table.name}.json"

    def read(self) -> Entries:
        """All entries; none where there is no file yet.

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
        """The entries of a run, one a metric; fewer where the run is not finished."""
        entries = self.read()
        ids = [(run.method, run.data, run.seed, metric) for metric in self.table.metrics_of(run)]
        return [entries[id_] for id_ in ids if id_ in entries]

    def put(self, new: list[Entry]) -> None:
        """Add entries, or replace those of the same run and metric."""
        self._change(lambda entries: entries.update({entry.id: entry for entry in new}))

    def _change(self, change: Callable[[Entries], None]) -> None:
        """Read, change and write as one step, in the order of the table; other processes wait."""
        with _locked(self.directory):
            entries = self.read()
            change(entries)
            lines = [json.dumps(entry.model_dump(), ensure_ascii=False) for entry in self._sorted(entries)]
            write_text(self.path, "[\n" + ",\n".join(lines) + "\n]\n")

    def _sorted(self, entries: Entries) -> list[Entry]:
        """In the table's order; what the table no longer has comes last, for evidence is not thrown away."""
        methods, data = list(self.table.method), list(self.table.data)

        def place(names: list[str], name: str) -> tuple[int, str]:
            return (names.index(name), "") if name in names else (len(names), name)

        return sorted(
            entries.values(),
            key=lambda e: (place(methods, e.method), place(data, e.data), e.seed, e.metric.startswith("int8_")),
        )


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the directory itself: a lock file would lie among the committed results."""
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
