"""The cells of a comparison, and the times and the accuracy of one engine, which are measured in the engine's own process."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, computed_field

from bench.engines import AnyEngine, Model
from bench.inputs import TextBuilder, Texts, batches, sorted_by_length, token_counts
from bench.latency import Stopwatch, percentiles, slices, throughput

OWN_TEXTS = "own texts"
SINGLE_TEXTS = 20  # different texts of one length at batch 1
ROUNDS_SINGLE, ROUNDS_BATCHED = 10, 5  # in which the engines take turns, at batch 1 and at larger batches


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
    stable: bool = True  # whether the times had settled by then
    padding: float | None = None  # share of the tokens in the arrays that are padding; None: no arrays of token ids
    rounds: list[int] = []  # number of samples of each round; empty in reports from before there were rounds
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
    right: str | None = None  # a 1 or a 0 for each text of the split, in its order; None in older reports

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


class Opened(BaseModel):
    """What is known of an engine once its model is open."""

    parameters: int | None
    file_bytes: int
    load_s: float


class Finished(BaseModel):
    """What is known of an engine at the end."""

    peak_memory_bytes: int | None
    accuracy: Accuracy | None


@dataclass(frozen=True)
class CellPlan:
    """A cell that is to be measured. All engines of a comparison have the same ones."""

    input: str
    length: int | None
    batch_size: int
    rounds: int


def plan_cells(job: Job) -> list[CellPlan]:
    """The cells of an engine: at each length and for the task's own texts, batch 1 and large batches."""
    if not job.spec.timed:
        return []
    batches_of_own = -(-len(job.texts) // job.batch_size)
    plans = []
    for length in [*job.lengths, None]:
        name = OWN_TEXTS if length is None else f"{length} tokens"
        for size, inputs, rounds in (
            (1, len(job.texts) if length is None else SINGLE_TEXTS, ROUNDS_SINGLE),
            (job.batch_size, batches_of_own if length is None else 1, ROUNDS_BATCHED),
        ):
            plans.append(CellPlan(name, length, size, len(slices(inputs, rounds))))
    return plans


class EngineBench:
    """An engine that is being measured: open it, start a cell, take its rounds one by one, and so on to the last cell.

    :raises UserError: the engine cannot be opened, or no text of a wanted length can be made.
    """

    def __init__(self, job: Job) -> None:
        self._job, self._plans = job, plan_cells(job)
        started = time.perf_counter()
        self._model: Model = job.spec.open(job.threads, job.device)
        load_s = round(time.perf_counter() - started, 3)
        self.opened = Opened(parameters=self._model.parameters(), file_bytes=self._model.file_bytes, load_s=load_s)

    def start(self, cell: int) -> None:
        """Make the texts of a cell and warm up."""
        plan, model = self._plans[cell], self._model
        self._plan, self._inputs = plan, _inputs(model, self._job, plan)
        self._stopwatch = Stopwatch(model.encode, model.logits, self._inputs, self._job.seconds, plan.rounds)
        self._stopwatch.warm_up()

    def round(self, number: int) -> None:
        """Take the samples of one round of the cell."""
        self._stopwatch.round(number)

    def cell(self) -> Cell:
        """The cell, after its last round."""
        samples, plan = self._stopwatch.samples, self._plan
        tokens = [token_counts(batch, self._model.encoder) for batch in self._inputs]
        count, passes = sum(map(len, tokens)), len(samples.model_ms) // len(self._inputs)
        held = sum(len(of_batch) * max(of_batch) for of_batch in tokens)
        return Cell(
            input=plan.input,
            length=plan.length,
            batch_size=plan.batch_size,
            texts=passes * count,
            mean_tokens=round(sum(map(sum, tokens)) / count, 1),
            warm_up=samples.warm_up,
            stable=samples.stable,
            padding=round(1 - sum(map(sum, tokens)) / held, 4) if self._model.pads else None,
            rounds=samples.rounds,
            tokenise_ms=[round(ms, 4) for ms in samples.tokenise_ms],
            model_ms=[round(ms, 4) for ms in samples.model_ms],
        )

    def finish(self) -> Finished:
        """The memory so far, then the accuracy: a server never holds a whole split."""
        peak, job = _peak_memory(), self._job
        scored = _accuracy(self._model, job.scored, job.batch_size) if job.scored else None
        return Finished(peak_memory_bytes=peak, accuracy=scored)


def _inputs(model: Model, job: Job, plan: CellPlan) -> list[Texts]:
    """The batches of a cell. Texts of one length are of the task's own words.

    At batch 1 they have the given order. The task's own texts are in batches of similar length, as a program makes them that
    classifies many stored texts.
    """
    if plan.length is None:
        texts = job.texts if plan.batch_size == 1 else sorted_by_length(job.texts, model.encoder)
        return batches(texts, plan.batch_size)
    built = TextBuilder(job.spec.tokenizer, job.texts).build(plan.length, max(job.batch_size, SINGLE_TEXTS))
    number = SINGLE_TEXTS if plan.batch_size == 1 else job.batch_size
    return batches(built.take(range(number)), plan.batch_size)


def _accuracy(model: Model, scored: Labelled, batch_size: int) -> Accuracy:
    lengths = token_counts(scored.texts, model.encoder)
    order = np.argsort(lengths, kind="stable")
    parts = batches(scored.texts.take(order.tolist()), batch_size)
    answers = np.concatenate([model.logits(model.encode(batch)).argmax(axis=-1) for batch in parts])
    right = np.empty(len(order), bool)
    right[order] = answers == np.asarray(scored.labels)[order]
    return Accuracy(correct=int(right.sum()), total=len(right), right="".join("01"[one] for one in right.astype(int)))


def _peak_memory() -> int | None:
    """Peak resident memory of this process in bytes, as Linux counts it. None on other systems.

    `getrusage` would be wrong: its ru_maxrss starts from the memory of the parent process at the fork.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
