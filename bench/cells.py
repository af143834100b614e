"""The cells of the table for one engine, and its accuracy. Runs in the engine's own process."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydantic import BaseModel, computed_field

from bench.engines import Engine, EngineSpec
from bench.inputs import TextBuilder, Texts, batches, sorted_by_length, token_counts
from bench.latency import Limits, measure, percentiles, throughput

OWN_TEXTS = "own texts"
MINIMUM_SINGLE, MINIMUM_BATCHED = 20, 3  # samples of a cell, however slow the engine is


class Labelled(BaseModel):
    """Texts with labels, as indices of the logits."""

    texts: Texts
    labels: list[int]


class Job(BaseModel):
    """What one process measures."""

    spec: EngineSpec
    device: str
    threads: int
    cpus: list[int] | None  # the process is confined to these; None: the system cannot
    lengths: list[int]
    batch_size: int
    seconds: float  # of one cell
    texts: Texts  # the task's own, timed
    scored: Labelled | None  # the split that accuracy is computed on


class Summary(BaseModel):
    """What the samples of a cell come to; a percentile that they are too few for is None."""

    total_ms: dict[str, float | None]  # p50, p90, p95, p99 of tokenisation and model together
    tokenise_ms: dict[str, float | None]
    model_ms: dict[str, float | None]
    total_texts_per_s: float
    model_texts_per_s: float


class Cell(BaseModel):
    """Samples of one input at one batch size, in ms; a sample is one batch."""

    input: str
    length: int | None  # tokens of every text; None: the task's own texts
    batch_size: int
    texts: int  # in all samples together
    mean_tokens: float  # of a text, special tokens included
    warm_up: int  # calls before the first sample
    tokenise_ms: list[float]
    model_ms: list[float]

    @property
    def total_ms(self) -> list[float]:
        """Tokenisation and model together, sample by sample."""
        return [a + b for a, b in zip(self.tokenise_ms, self.model_ms, strict=True)]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def summary(self) -> Summary:
        """The figures that tables show."""
        return Summary(
            total_ms=percentiles(self.total_ms),
            tokenise_ms=percentiles(self.tokenise_ms),
            model_ms=percentiles(self.model_ms),
            total_texts_per_s=throughput(self.texts, self.total_ms),
            model_texts_per_s=throughput(self.texts, self.model_ms),
        )


class Accuracy(BaseModel):
    """Right answers on a split."""

    correct: int
    total: int

    @property
    def percent(self) -> float:
        """Share of right answers, 0 … 100."""
        return 100 * self.correct / self.total


class EngineResult(BaseModel):
    """All that was measured of one engine."""

    spec: EngineSpec
    parameters: int | None
    file_bytes: int
    load_s: float  # opening tokenizer and model, imports included
    peak_memory_bytes: int | None  # resident, of the whole process; None: the system does not tell
    accuracy: Accuracy | None
    cells: list[Cell]


def measure_engine(job: Job, progress: Callable[[str], None]) -> EngineResult:
    """Open the job's engine and measure every cell, then its accuracy.

    :raises UserError: the engine cannot be opened, or the texts cannot make up a length.
    """
    progress("loading")
    started = time.perf_counter()
    engine = Engine(job.spec, threads=job.threads, device=job.device)
    load_s = time.perf_counter() - started
    cells = [cell for length in job.lengths for cell in _cells_of_length(engine, job, length, progress)]
    cells += _cells_of_own_texts(engine, job, progress)
    peak = _peak_memory()  # before the scored split, which is larger than what a server holds
    accuracy = None
    if job.scored:
        progress("accuracy")
        accuracy = _accuracy(engine, job.scored, job.batch_size)
    return EngineResult(
        spec=job.spec,
        parameters=engine.model.parameters(),
        file_bytes=engine.model.file_bytes,
        load_s=round(load_s, 3),
        peak_memory_bytes=peak,
        accuracy=accuracy,
        cells=cells,
    )


def _cells_of_length(engine: Engine, job: Job, length: int, progress: Callable[[str], None]) -> list[Cell]:
    """Batch 1 over twenty different texts, and one batch; all of `length` tokens."""
    texts = TextBuilder(job.spec.tokenizer, job.texts).build(length, max(job.batch_size, MINIMUM_SINGLE))
    name = f"{length} tokens"
    progress(f"{name}, batch 1")
    single = _cell(engine, job, name, length, batches(texts.take(range(MINIMUM_SINGLE)), 1), 1)
    progress(f"{name}, batch {job.batch_size}")
    batched = _cell(engine, job, name, length, [texts.take(range(job.batch_size))], job.batch_size)
    return [single, batched]


def _cells_of_own_texts(engine: Engine, job: Job, progress: Callable[[str], None]) -> list[Cell]:
    """Batch 1 in the given order, and batches of similar length, as a server that scores a backlog forms them."""
    progress(f"{OWN_TEXTS}, batch 1")
    single = _cell(engine, job, OWN_TEXTS, None, batches(job.texts, 1), 1)
    progress(f"{OWN_TEXTS}, batch {job.batch_size}")
    in_order = sorted_by_length(job.texts, engine.encoder)
    batched = _cell(engine, job, OWN_TEXTS, None, batches(in_order, job.batch_size), job.batch_size)
    return [single, batched]


def _cell(engine: Engine, job: Job, name: str, length: int | None, inputs: list[Texts], batch_size: int) -> Cell:
    minimum = MINIMUM_SINGLE if batch_size == 1 else MINIMUM_BATCHED
    samples = measure(engine.encode, engine.logits, inputs, Limits(job.seconds, minimum))
    passes = len(samples.model_ms) // len(inputs)
    tokens = [count for batch in inputs for count in token_counts(batch, engine.encoder)]
    return Cell(
        input=name,
        length=length,
        batch_size=batch_size,
        texts=passes * len(tokens),
        mean_tokens=round(sum(tokens) / len(tokens), 1),
        warm_up=samples.warm_up,
        tokenise_ms=[round(ms, 4) for ms in samples.tokenise_ms],
        model_ms=[round(ms, 4) for ms in samples.model_ms],
    )


def _accuracy(engine: Engine, scored: Labelled, batch_size: int) -> Accuracy:
    lengths = token_counts(scored.texts, engine.encoder)
    order = np.argsort(lengths, kind="stable").tolist()
    labels = np.asarray(scored.labels)[order]
    answers = [
        engine.logits(engine.encode(batch)).argmax(axis=-1) for batch in batches(scored.texts.take(order), batch_size)
    ]
    return Accuracy(correct=int((np.concatenate(answers) == labels).sum()), total=len(labels))


def _peak_memory() -> int | None:
    """Peak resident memory of this process in bytes, from Linux.

    Not `getrusage`: its ru_maxrss starts from what the parent process held when it forked.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
