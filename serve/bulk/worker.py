"""Answers chunks, in this process or in several."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from types import TracebackType
from typing import Any, Protocol

from compress.runtime.cpus import own_cpus
from compress.runtime.errors import UserError
from serve.bulk.chunks import Chunk, Reader
from serve.bulk.layout import Layout
from serve.bulk.options import BulkOptions
from serve.bulk.rows import Bad, Cells, RowError, Writer, bad_row, read_chunk, text_of
from serve.messages import Prediction, Predictions, RefusedError, Request
from serve.predictor import Predictor
from serve.settings import Settings

MOST_PER_CORE = 16  # workers; more are a slip of the keyboard
EXTRAS = ("model", "unsure")  # of an answer, where a bundle's answers have them


@dataclass(frozen=True)
class Setup:
    """What a worker must know. It is sent to each."""

    settings: dict[str, Any]  # of the `Predictor`: bundle, precision and so on
    bundle: str  # SHA-256 of its manifest
    source: Layout
    target: Layout
    schema: bytes | None  # see `Writer`
    text: str  # names of columns
    text_b: str | None
    kept: tuple[str, ...] | None  # columns of the input to keep; None: all
    prefix: str  # of the names of the new columns
    scores: bool  # whether every label gets a column with its probability
    domain: str | None

    @property
    def read(self) -> list[str] | None:
        """The columns of the input that the output needs, in their order there: texts, and those to keep. None: all."""
        if self.kept is None:
            return None
        return [name for name in self.source.columns if name in {self.text, self.text_b, *self.kept}]


@dataclass(frozen=True)
class Done:
    """A chunk with its answers."""

    data: bytes  # what `Writer.write` made
    rows: int  # in the chunk
    written: int
    bad: list[Bad]
    labels: Counter[str]
    models: Counter[str]  # which model of a cascade answered


@dataclass(frozen=True)
class Answered:
    """A chunk that is done: where it belongs, and how far the table was read then."""

    part: int
    share: float | None
    done: Done


Answers = Generator[Answered, None, None]  # closing it ends who answers


class Engine(Protocol):
    """Who answers."""

    def workers(self, setup: Setup) -> int:
        """How many answer at the same time."""

    def answers(self, setup: Setup, first: int) -> Answers:
        """The answers to all chunks from a part on, in the order of the table.

        :raises UserError: the bundle cannot be loaded, the table cannot be read to its end, or who answers died.
        """


class Worker:
    """A loaded bundle that answers chunks.

    :raises UserError: see `Predictor`; or the bundle is not that of the job any more.
    """

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self._predictor = Predictor(Settings.model_construct(**setup.settings))
        if self._predictor.info.bundle != setup.bundle:
            raise UserError(
                f"{setup.settings['bundle']}: the bundle was exported again since the job began; begin anew with --force"
            )
        self._writer = Writer(setup.target, setup.schema)

    def answer(self, chunk: Chunk) -> Done:
        """Answer the rows of a chunk, in their order."""
        setup = self.setup
        rows, bad = read_chunk(chunk, setup.source)
        asked: list[tuple[int, Cells, str, str | None]] = []
        for row, cells in rows:
            try:
                second = None if setup.text_b is None else text_of(cells, setup.text_b)
                asked.append((row, cells, text_of(cells, setup.text), second))
            except RowError as error:
                bad.append(bad_row(chunk, row, str(error), cells))
        answers = self._classify(
            [text for *_, text, _ in asked], [second for *_, second in asked if second is not None]
        )
        sound: list[tuple[int, Cells, Prediction]] = []
        for (row, cells, *_), answer in zip(asked, answers, strict=True):
            if isinstance(answer, str):
                bad.append(bad_row(chunk, row, answer, cells))
            else:
                sound.append((row, cells, answer))
        data, refused = self._writer.write([self._cells(cells, answer) for _, cells, answer in sound])
        bad += [bad_row(chunk, sound[place][0], reason, sound[place][1]) for place, reason in refused.items()]
        given = [answer for place, (*_, answer) in enumerate(sound) if place not in refused]
        return Done(
            data=data,
            rows=len(chunk.numbers),
            written=len(given),
            bad=sorted(bad, key=lambda one: one.number),
            labels=Counter(answer.label for answer in given),
            models=Counter(answer.model for answer in given if answer.model is not None),
        )

    def _classify(self, texts: Sequence[str], texts_b: Sequence[str]) -> list[Prediction | str]:
        """The answer for each text, or why there is none."""
        if not texts:
            return []
        setup, predictor = self.setup, self._predictor
        content: dict[str, object] = {
            "text": texts,
            "text_b": texts_b or None,
            "scores": setup.scores,
            "domain": setup.domain,
        }
        try:
            request = Request.checked(content, pair=predictor.pair, limits=None, domains=predictor.domains)
            answer = predictor.classify(request)
        except RefusedError as error:
            if len(texts) == 1:
                return [str(error).split(": ", 1)[-1]]
            half = len(texts) // 2
            return self._classify(texts[:half], texts_b[:half]) + self._classify(texts[half:], texts_b[half:])
        return list(answer.results) if isinstance(answer, Predictions) else [answer]

    def _cells(self, cells: Cells, answer: Prediction) -> Cells:
        """A row of the output."""
        setup = self.setup
        kept = cells if setup.kept is None else {name: cells[name] for name in setup.kept if name in cells}
        new = {"label": answer.label, "score": answer.score}
        new |= {name: value for name in EXTRAS if (value := getattr(answer, name)) is not None}
        if answer.scores is not None:
            new |= {f"score_{label}": answer.scores[label] for label in self._predictor.labels}
        return kept | {f"{setup.prefix}{name}": value for name, value in new.items()}


class Workers:
    """Answers chunks in `count` processes, or in this one if it is one. A context; leaving it by an exception kills the processes."""

    def __init__(self, setup: Setup, count: int) -> None:
        self._own = Worker(setup) if count == 1 else None
        self._pool: ProcessPoolExecutor | None = None
        if count > 1:
            # Not forked: a process must not inherit the threads of ONNX Runtime.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(count, context, initializer=_start, initargs=(setup,))
        # Some chunks take longer, so the others work ahead.
        self.window = 1 if count == 1 else 8 * count

    def submit(self, chunk: Chunk) -> Future[Done]:
        """Have a chunk answered.

        :raises UserError: a process was killed.
        """
        if self._pool is not None:
            with _kill_as_one_line():
                return self._pool.submit(_answer, chunk)
        assert self._own is not None, "without processes there is a worker here"
        done: Future[Done] = Future()
        done.set_result(self._own.answer(chunk))
        return done

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is None:
            return
        if kind is not None:
            for process in list((self._pool._processes or {}).values()):
                process.kill()  # it may be in the middle of a long chunk
        self._pool.shutdown(cancel_futures=True)


class OwnProcesses:
    """Processes of this machine: one for each core, or one for a GPU.

    :raises UserError: more are asked for than the machine can be meant to start.
    """

    def __init__(self, options: BulkOptions) -> None:
        cores = own_cpus()
        if (options.workers or 1) > MOST_PER_CORE * cores:
            raise UserError(
                f"--workers {options.workers}: this machine has {cores} cores; give at most {MOST_PER_CORE * cores}, {MOST_PER_CORE} for each"
            )
        self._options = options

    def workers(self, setup: Setup) -> int:
        """See `Engine`."""
        return self._options.workers or (1 if setup.settings.get("device") == "cuda" else own_cpus())

    def answers(self, setup: Setup, first: int) -> Answers:
        """See `Engine`."""
        reader = Reader(self._options.source, setup.source, self._options.part_rows, setup.read)
        waiting: deque[tuple[int, float | None, Future[Done]]] = deque()
        chunks = reader.chunks_from(first)
        with Workers(setup, self.workers(setup)) as workers:
            while True:
                chunk = next(chunks, None)
                if chunk is not None:
                    waiting.append((chunk.part, reader.share, workers.submit(chunk)))
                while waiting and (chunk is None or len(waiting) >= workers.window or waiting[0][2].done()):
                    part, share, future = waiting.popleft()
                    yield Answered(part, share, result_of(future))
                if chunk is None:
                    return


def result_of(future: Future[Done]) -> Done:
    """Wait for a chunk.

    :raises UserError: a process was killed, or what it raised.
    """
    with _kill_as_one_line():
        return future.result()


@contextmanager
def _kill_as_one_line() -> Iterator[None]:
    try:
        yield
    except BrokenExecutor:
        raise UserError(
            "a worker was killed, perhaps because the memory was full: run the same command again, which carries on, with "
            "fewer --workers"
        ) from None


_setup: Setup | None = None
_worker: Worker | None = None


def _start(setup: Setup) -> None:
    """Prepare a process. The bundle is loaded with the first chunk, so that what is wrong with it reaches the user."""
    global _setup
    _setup = setup
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets Ctrl-C, and ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent is gone. A pool's worker would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _answer(chunk: Chunk) -> Done:
    global _worker
    if _worker is None:
        assert _setup is not None, "the process was started by a pool"
        _worker = Worker(_setup)
    return _worker.answer(chunk)
