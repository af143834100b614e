"""A bulk job: reads a table, has it answered, and writes the output part by part."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from compress import __version__
from compress.runtime.errors import UserError
from export.bundle import Bundle, find_bundle
from export.manifest import Manifest
from serve.bulk.chunks import CHUNK_ROWS, Chunk, Reader
from serve.bulk.layout import Layout, find_layout, import_parquet, named_layout, open_parquet
from serve.bulk.options import BulkOptions
from serve.bulk.parts import Output, Part
from serve.bulk.rows import read_chunk
from serve.bulk.source import identity, open_input
from serve.bulk.urls import is_url, local_path
from serve.bulk.worker import EXTRAS, Answers, Done, Engine, OwnProcesses, Setup

SHOWN = 3  # bad rows in a message
OTHER_KINDS = (
    ".xlsx",
    ".xls",
    ".ods",
    ".json",
    ".txt",
    ".xml",
    ".feather",
    ".arrow",
    ".zip",
)  # no names of directories


@dataclass
class State:
    """How far a job is."""

    carried: int = 0  # rows that an earlier run had finished
    rows: int = 0  # read, those of an earlier run included
    written: int = 0
    bad: int = 0
    share: float | None = None  # of the input that has been read
    labels: Counter[str] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    workers: int = 1
    seconds: float = 0.0  # since the first chunk was given to a worker
    bad_place: str = ""
    doubts: tuple[str, ...] = ()

    @property
    def rate(self) -> float:
        """Rows of this run in a second."""
        return (self.rows - self.carried) / self.seconds if self.seconds else 0.0


Shown = Callable[[State], None]


def run_bulk(bundle: Path | None, options: BulkOptions, shown: Shown = lambda state: None) -> State:
    """Classify a table of any size. Memory does not grow with the rows.

    A run that was killed is carried on by the same call: the output is the same to the byte as that of a run that was not. Bad rows
    are in a file beside the output.

    :param bundle: as `find_bundle` takes it.
    :param shown: called at the start and after each chunk.
    :returns: what was done.
    :raises UserError: the input, a column or the bundle is not there or not fit, the output exists, or more rows than
        `max_bad` are bad.
    """
    options = replace(options, source=local_path(options.source), target=local_path(options.target))
    opened = Bundle(find_bundle(bundle).absolute())
    setup = _setup(opened, options)
    _check_output(options)
    single = named_layout(options.target) is not None
    unit = "row" if setup.source.kind == "parquet" else "line"
    output = Output(options.target, setup.target, setup.schema, single=single, unit=unit)
    with output.locked(), _engine(options) as engine:
        parts = output.begin(_job(options, setup), force=options.force)
        state = State(workers=engine.workers(setup), bad_place=output.bad_place, doubts=setup.source.doubts)
        for part in parts:
            _count(state, part)
        state.carried = state.rows
        _check_bad(state, parts, output, options.max_bad)
        shown(state)
        start = time.monotonic()

        def after_chunk(part: Part, done: Done, share: float | None) -> None:
            _count(state, done)
            state.share, state.seconds = share, time.monotonic() - start
            _check_bad(state, [*parts, part], output, options.max_bad)
            shown(state)

        with closing(engine.answers(setup, len(parts))) as answers:
            for part in _new_parts(answers, len(parts), after_chunk):
                output.write(part)
                parts.append(part)
        if not parts:  # a table without rows has an output without rows
            parts.append(Part(0))
            output.write(parts[0])
        output.finish(parts)
    return state


def _engine(options: BulkOptions) -> AbstractContextManager[Engine]:
    """Who answers."""
    if options.ray is None:
        return nullcontext(OwnProcesses(options))
    from serve.bulk.on_ray import ray_cluster

    return ray_cluster(options)


def _new_parts(answers: Answers, first: int, after_chunk: Callable[[Part, Done, float | None], None]) -> Iterator[Part]:
    """The parts from the first that is not finished, each when all of its chunks are answered.

    :param after_chunk: called with the part in the making, the chunk that was put into it, and the share of the table up to there.
    """
    part = Part(first)
    for one in answers:
        if one.part != part.number:
            yield part
            part = Part(one.part)
        part.add(one.done)
        after_chunk(part, one.done, one.share)
    if part.rows:
        yield part


def _count(state: State, new: Part | Done) -> None:
    state.rows, state.written, state.bad = state.rows + new.rows, state.written + new.written, state.bad + len(new.bad)
    state.labels += new.labels
    state.models += new.models


def _check_bad(state: State, parts: list[Part], output: Output, most: int) -> None:
    if state.bad <= most:
        return
    bad = [one for part in parts for one in part.bad]
    output.write_bad(bad)
    examples = "; ".join(f"{output.unit} {one.number}: {one.reason}" for one in bad[:SHOWN])
    raise UserError(
        f"{state.bad} of {state.rows} rows are bad, and --max-bad is {most} ({examples}); all of them are in {output.bad_place}: "
        "mend the table, or run the same command with a higher --max-bad, which carries on"
    )


def _check_output(options: BulkOptions) -> None:
    """See that the output is of a kind that can be written, and does not take the place of the table.

    The table is read until the end, and by a job that carries on.

    :raises UserError: it is not, or does.
    """
    ending = PurePosixPath(options.target).suffix.lower()
    if ending in OTHER_KINDS:
        raise UserError(
            f"{options.target}: {ending} is no kind of table that can be written; use .csv, .tsv, .jsonl or .parquet, or a name "
            "without an ending for a directory of parts"
        )
    table, output = (
        place.rstrip("/") if is_url(place) else os.path.realpath(place) for place in (options.source, options.target)
    )
    if table == output or table.startswith((f"{output}/", f"{output}.parts/")):
        raise UserError(f"{options.target}: is where the table is, which would be lost; name another place with --out")


def _setup(bundle: Bundle, options: BulkOptions) -> Setup:
    manifest = bundle.manifest
    bundle.model(options.model.get("precision"), options.domain)
    for option, name in (("threshold", "cascade_threshold"), ("unsure-below", "unsure_below")):
        if (value := options.model.get(name)) is not None and not 0 <= value <= 1:
            raise UserError(f"--{option} {value}: must be a number from 0 to 1")
    if options.domain is not None and not manifest.domains:
        raise UserError(f"--domain {options.domain}: this bundle has one model for all texts; leave the option out")
    wanted = {"--text": options.text} | ({"--text-b": options.text_b} if manifest.pair else {})
    source = find_layout(
        options.source, wanted, separator=options.separator, quoting=options.quoting, encoding=options.encoding
    )
    if options.columns is not None and (unknown := next((c for c in options.columns if c not in source.columns), None)):
        raise UserError(f"--columns: no column {unknown!r}; choose among {', '.join(source.columns[:20])}")
    kept = source.columns if options.columns is None else options.columns
    new = [f"{options.prefix}{name}" for name in _new_columns(manifest, options)]
    if twice := next((name for name in new if name in kept), None):
        raise UserError(
            f"{options.source}: has a column {twice!r}, as the output will: name the new columns with --prefix predicted_, or "
            "leave that one out with --columns"
        )
    target = replace(named_layout(options.target) or _of_directory(source), columns=(*kept, *new))
    if target.kind == source.kind:
        target = replace(target, separator=source.separator, quoting=source.quoting)
    return Setup(
        settings={"bundle": bundle.directory, **options.model},
        bundle=bundle.sha256,
        source=source,
        target=target,
        schema=_schema(options, source, target, new) if target.kind == "parquet" else None,
        text=options.text,
        text_b=options.text_b if manifest.pair else None,
        kept=options.columns,
        prefix=options.prefix,
        scores=options.scores,
        domain=options.domain,
    )


def _of_directory(source: Layout) -> Layout:
    """The parts in a directory are of the input's kind, and in UTF-8."""
    return replace(source, encoding=None, doubts=())


def _new_columns(manifest: Manifest, options: BulkOptions) -> list[str]:
    """The names of the columns that answers have, without the prefix."""
    model = options.model
    extras = {
        "model": manifest.cascade is not None and model.get("cascade") is not False,
        "unsure": model.get("unsure_below") is not None,
    }
    scores = [f"score_{label}" for label in manifest.labels] if options.scores else []
    return ["label", "score", *(name for name in EXTRAS if extras[name]), *scores]


def _schema(options: BulkOptions, source: Layout, target: Layout, new: list[str]) -> bytes:
    """The Arrow schema of the output. The types of a table of text are those of its first rows."""
    import_parquet(options.target)
    import pyarrow

    kept = target.columns[: -len(new)]
    if source.kind == "parquet":
        with open_input(options.source) as file:
            schema = open_parquet(file, options.source).schema_arrow
        fields = [schema.field(name) for name in kept]
    elif source.delimited:
        fields = [pyarrow.field(name, pyarrow.string()) for name in kept]
    else:
        first = next(Reader(options.source, source, CHUNK_ROWS).chunks(), Chunk(0))
        rows = [cells for _, cells in read_chunk(first, source)[0]]
        fields = []
        for name in kept:
            try:
                kind = pyarrow.array([cells.get(name) for cells in rows]).type
            except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError):
                raise UserError(
                    f"{options.source}: column {name!r} holds values of several types, which Parquet cannot; leave it out with "
                    "--columns, or write .jsonl"
                ) from None
            fields.append(pyarrow.field(name, pyarrow.string() if pyarrow.types.is_null(kind) else kind))
    kinds = {f"{options.prefix}score": pyarrow.float64(), f"{options.prefix}unsure": pyarrow.bool_()}
    kinds |= {name: pyarrow.float64() for name in new if name.startswith(f"{options.prefix}score_")}
    fields += [pyarrow.field(name, kinds.get(name, pyarrow.string())) for name in new]
    return pyarrow.schema(fields).serialize().to_pybytes()


def _job(options: BulkOptions, setup: Setup) -> dict[str, Any]:
    """All that the output depends on, by names for the message that one of them has changed."""
    return {
        "input": identity(options.source),
        "bundle": setup.bundle,
        "options_of_the_model": {name: value for name, value in sorted(options.model.items()) if name != "threads"},
        "layout_of_the_input": repr(setup.source),
        "columns_or_kind_of_the_output": repr((setup.target, setup.text, setup.text_b, setup.kept)),
        "domain": options.domain,
        "number_of_rows_in_a_part": options.part_rows,
        "version_of_pocketbert": __version__,
    }
