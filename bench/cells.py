"""The times and the accuracy of one engine. This code runs in the engine's own process."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydantic import BaseModel, computed_field

from bench.engines import AnyEngine, Model
from bench.inputs import TextBuilder, Texts, batches, sorted_by_length, token_counts
from bench.latency import Limits, measure, percentiles, throughput

OWN_TEXTS = "own texts"
MINIMUM_SINGLE, MINIMUM_BATCHED = 20, 3  # a cell has at least so many samples, at batch 1 and at larger batches


class Labelled(BaseModel):
    """Texts with their labels; a label is an index of the logits."""

    texts: Texts
    labels: list[int]


class Job(BaseModel):
    """What one process measures."""

    spec: AnyEngine  # the engine
    device: str
    threads: int
    cpus: list[int] | None  # the process may use only these; None: the system cannot pin a process
    lengths: list[int]  # tokens
    batch_size: int
    seconds: float  # each cell is measured for so long
    texts: Texts  # the task's own texts, for the timings
    scored: Labelled | None  # the split for the accuracy; None: it has no meaning for this engine


class Summary(BaseModel):
    """Figures of a cell's samples. A percentile is None if there are too few samples for it."""

    total_ms: dict[str, float | None]  # p50, p90, p95 and p99 of tokenisation plus model
    tokenise_ms: dict[str, float | None]
    model_ms: dict[str, float | None]
    total_texts_per_s: float
    model_texts_per_s: float


class Cell(BaseModel):
    """Samples of one input at one batch size, in ms. A sample is the time of one batch."""

    input: str
    length: int | None  # tokens of every text; None: the task's own texts, which differ in length
    batch_size: int
    texts: int  # in all samples together
    mean_tokens: float  # tokens of a text on average, special tokens included
    warm_up: int  # calls before the first sample
    tokenise_ms: list[float]
    model_ms: list[float]

    @property
    def total_ms(self) -> list[float]:
        """Tokenisation plus model, for each sample."""
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
    """Number of right answers on a split."""

    correct: int
    total: int

    @property
    def percent(self) -> float:
        """Accuracy in %."""
        return 100 * self.correct / self.total


class EngineResult(BaseModel):
    """All that was measured for one engine."""

    spec: AnyEngine  # the engine
    parameters: int | None
    file_bytes: int
    load_s: float  # time to open tokenizer and model, in seconds, imports included
    peak_memory_bytes: int | None  # resident memory of the whole process; None: the system does not tell
    accuracy: Accuracy | None
    cells: list[Cell]


def measure_engine(job: Job, progress: Callable[[str], None]) -> EngineResult:
    """Open the job's engine, measure every cell, then the accuracy.

    :param progress: is told in a few words what is being measured.
    :raises UserError: the engine cannot be opened, or no text of a wanted length can be made.
    """
    progress("loading")
    started = time.perf_counter()
    model = job.spec.open(job.threads, job.device)
    load_s = time.perf_counter() - started
    cells = [cell for length in job.lengths for cell in _cells_of_length(model, job, length, progress)]
    cells += _cells_of_own_texts(model, job, progress)
    peak = _peak_memory()  # read before the accuracy: a server never holds a whole split
    accuracy = None
    if job.scored:
        progress("accuracy")
        accuracy = _accuracy(model, job.scored, job.batch_size)
    return EngineResult(
        spec=job.spec,
        parameters=model.parameters(),
        file_bytes=model.file_bytes,
        load_s=round(load_s, 3),
        peak_memory_bytes=peak,
        accuracy=accuracy,
        cells=cells,
    )


def _cells_of_length(model: Model, job: Job, length: int, progress: Callable[[str], None]) -> list[Cell]:
    """Two cells of texts with `length` tokens: batch 1 over twenty different texts, and one large batch."""
    texts = TextBuilder(job.spec.tokenizer, job.texts).build(length, max(job.batch_size, MINIMUM_SINGLE))
    name = f"{length} tokens"
    progress(f"{name}, batch 1")
    single = _cell(model, job, name, length, batches(texts.take(range(MINIMUM_SINGLE)), 1), 1)
    progress(f"{name}, batch {job.batch_size}")
    batched = _cell(model, job, name, length, [texts.take(range(job.batch_size))], job.batch_size)
    return [single, batched]


def _cells_of_own_texts(model: Model, job: Job, progress: Callable[[str], None]) -> list[Cell]:
    """Two cells of the task's own texts: batch 1 in the given order, and large batches of texts of similar length.

    A program that classifies many stored texts forms its batches in the same way.
    """
    progress(f"{OWN_TEXTS}, batch 1")
    single = _cell(model, job, OWN_TEXTS, None, batches(job.texts, 1), 1)
    progress(f"{OWN_TEXTS}, batch {job.batch_size}")
    in_order = sorted_by_length(job.texts, model.encoder)
    batched = _cell(model, job, OWN_TEXTS, None, batches(in_order, job.batch_size), job.batch_size)
    return [single, batched]


def _cell(model: Model, job: Job, name: str, length: int | None, inputs: list[Texts], batch_size: int) -> Cell:
    minimum = MINIMUM_SINGLE if batch_size == 1 else MINIMUM_BATCHED
    samples = measure(model.encode, model.logits, inputs, Limits(job.seconds, minimum))
    passes = len(samples.model_ms) // len(inputs)
    tokens = [count for batch in inputs for count in token_counts(batch, model.encoder)]
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


def _accuracy(model: Model, scored: Labelled, batch_size: int) -> Accuracy:
    lengths = token_counts(scored.texts, model.encoder)
    order = np.argsort(lengths, kind="stable").tolist()
    labels = np.asarray(scored.labels)[order]
    answers = [
        model.logits(model.encode(batch)).argmax(axis=-1) for batch in batches(scored.texts.take(order), batch_size)
    ]
    return Accuracy(correct=int((np.concatenate(answers) == labels).sum()), total=len(labels))


def _peak_memory() -> int | None:
    """Peak resident memory of this process in bytes, as Linux counts it. None on other systems.

    `getrusage` would be wrong: its ru_maxrss starts from the memory of the parent process at the fork.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
