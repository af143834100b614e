"""A comparison from start to end: choose the engines, measure each in its own process, write the report."""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rich.markup import escape

from bench.baseline import BaselineOptions
from bench.cells import EngineResult, Job, Labelled
from bench.conditions import Condition
from bench.engines import Engine
from bench.environment import describe, typed_command
from bench.inputs import Texts
from bench.isolate import choose_cpus
from bench.plot import write_plot
from bench.report import Report, write_report
from bench.rivals import Rivals
from bench.roster import Roster
from bench.task import Task
from bench.text import check_out
from bench.turns import Comparison, fits_in_memory
from compress.busy import busy_share
from compress.console import console
from compress.data.corpus import Corpus
from compress.data.domains import load_student_corpus
from compress.data.files import fingerprint
from compress.pipeline.workspace import Workspace
from compress.recipe import Recipe
from compress.runtime.errors import UserError


@dataclass(frozen=True)
class CompareOptions:
    """What the command line adds to a recipe."""

    workspace: Path  # artifacts/NAME: holds teacher and bundle; the report goes there
    source: tuple[Path, list[str]]  # the recipe's file and its changed settings, for rivals that are students
    bundle: Path | None = None  # instead of the workspace's
    beside: tuple[Path, ...] = ()  # further bundles of the task, whose default models are measured too
    out: Path | None = None  # instead of WORKSPACE/bench
    only: list[str] = field(default_factory=list)
    skip: list[str] = field(default_factory=list)
    rivals: str = "cheap"  # see `Roster.choose`
    conditions: list[Condition] = field(default_factory=list)  # what the student must reach
    device: str = "cpu"
    baseline: BaselineOptions = field(default_factory=BaselineOptions)


def compare(recipe: Recipe, options: CompareOptions) -> tuple[Report, Path]:
    """Measure the engines of a recipe. Return the report and the directory that it was written to.

    After Ctrl-C the report has what was measured by then, and says so.

    :raises UserError: a model is missing or cannot be used. Then nothing is written.
    :raises KeyboardInterrupt: nothing was measured when it came.
    """
    _check_device(options.device)
    out = options.out or options.workspace / "bench"
    check_out(out)
    cpus = choose_cpus(recipe.bench.threads)
    environment = describe(options.device).model_copy(update={"busy_share": busy_share(cpus)})
    corpus = load_student_corpus(recipe)
    bundle = options.bundle or options.workspace / "bundle"
    workspace = Workspace(options.workspace)
    rivals = Rivals(recipe, corpus, workspace, options.source)
    teacher, length = options.workspace / "teacher", recipe.target.max_length
    task = Task(teacher, bundle, corpus, length, options.device, options.baseline, rivals, options.beside)
    roster = Roster(task)
    names = roster.choose(options.rivals, options.only, options.skip)
    student = f"student-{roster.task.manifest.default}"
    for condition in options.conditions:
        condition.check(names, student)
    skipped: dict[str, str] = {}
    with workspace.locked():
        engines = roster.engines(names, skipped)
        for name, reason in skipped.items():
            console.print(f"[yellow]{name} is left out:[/] {escape(reason)}")
        lengths = _lengths(engines, recipe)
        texts, scored = own_texts(corpus, recipe), labelled(corpus)
        jobs = [
            Job(
                spec=engine,
                device=options.device,
                threads=recipe.bench.threads,
                cpus=cpus,
                lengths=lengths,
                batch_size=recipe.bench.batch_size,
                seconds=recipe.bench.seconds,
                texts=texts,
                scored=scored if engine.scored else None,
            )
            for engine in engines
        ]
        results, interleaved, partial = _run(jobs)
        report = Report(
            name=recipe.name,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            command=typed_command(),
            device=options.device,
            threads=recipe.bench.threads,
            cpus=cpus,
            batch_size=recipe.bench.batch_size,
            seconds=recipe.bench.seconds,
            own_texts=len(texts),
            split=corpus.report_split,
            environment=environment,
            texts=fingerprint(scored.texts.first, scored.texts.second, scored.labels),
            student=student,
            interleaved=interleaved,
            partial=partial,
            skipped=skipped,
            engines=results,
        )
        write_report(report, out)
        if report.inputs:
            write_plot(report, out)
    return report, out


def _lengths(engines: list[Engine], recipe: Recipe) -> list[int]:
    """The recipe's `bench.lengths`. The default ones are cut to what all engines take, so that it suits any task.

    :raises UserError: the recipe asks for a length that an engine does not take.
    """
    shortest = min(engines, key=lambda engine: engine.max_length)
    wanted, most = recipe.bench.lengths, shortest.max_length
    if "lengths" in recipe.bench.model_fields_set and max(wanted) > most:
        raise UserError(f"bench.lengths: {shortest.name} takes {most} tokens at most, not {max(wanted)}")
    return sorted({min(length, most) for length in wanted})


def _run(jobs: list[Job]) -> tuple[list[EngineResult], bool, str | None]:
    """The results, whether the engines took turns, and what is missing after Ctrl-C or SIGTERM."""
    if interleaved := fits_in_memory([job.spec.path for job in jobs]):
        console.print(f"{len(jobs)} engines take turns")
    else:
        console.print(
            "[yellow]too little free memory for all engines at once:[/] they are measured one after the other"
        )
    with console.status("") as status:
        comparison = Comparison(jobs, lambda what: status.update(escape(what)), interleaved=interleaved)
        try:
            with _termination_as_interrupt():
                return comparison.run(), interleaved, None
        except KeyboardInterrupt:
            results = comparison.results()
            if not any(result.cells or result.accuracy for result in results):
                raise
            return results, interleaved, comparison.missing()


@contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """SIGTERM is as Ctrl-C: who is stopped by a time limit has a report too, and no engine measures on without this process."""
    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def own_texts(corpus: Corpus, recipe: Recipe) -> Texts:
    """The task's own texts for the timings: a random choice with the recipe's seed.

    The first rows of a table would be wrong: they are often of one kind.
    """
    split = corpus.splits[corpus.report_split]
    rows = random.Random(recipe.seed).sample(range(len(split)), min(recipe.bench.texts, len(split)))
    return Texts(split.texts, split.texts_b).take(rows)


def labelled(corpus: Corpus) -> Labelled:
    """The texts for reported figures, with their labels."""
    split = corpus.splits[corpus.report_split]
    return Labelled(texts=Texts(split.texts, split.texts_b), labels=split.labels)


def _check_device(device: str) -> None:
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise UserError(
                "--device cuda: PyTorch sees no CUDA device; install a CUDA build of torch on a machine with a GPU, "
                "or use --device cpu"
            )
