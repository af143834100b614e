"""A comparison from start to end: choose the engines, measure each in its own process, write the report."""

from __future__ import annotations

import random
import shlex
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from bench.baseline import BaselineOptions
from bench.cells import EngineResult, Job, Labelled
from bench.engines import Engine
from bench.environment import busy_share, describe
from bench.inputs import Texts
from bench.isolate import choose_cpus, run_isolated
from bench.plot import write_plot
from bench.report import Report, write_report
from bench.roster import Roster, select
from bench.task import Task
from compress.console import console
from compress.data.corpus import Corpus
from compress.data.domains import load_student_corpus
from compress.pipeline.workspace import Workspace
from compress.recipe import Recipe
from compress.runtime.errors import UserError


@dataclass(frozen=True)
class CompareOptions:
    """What the command line adds to a recipe."""

    workspace: Path  # artifacts/NAME: holds teacher and bundle; the report goes there
    bundle: Path | None = None  # instead of the workspace's
    out: Path | None = None  # instead of WORKSPACE/bench
    only: list[str] = field(default_factory=list)
    skip: list[str] = field(default_factory=list)
    device: str = "cpu"
    baseline: BaselineOptions = field(default_factory=BaselineOptions)


def compare(recipe: Recipe, options: CompareOptions) -> tuple[Report, Path]:
    """Measure the engines of a recipe. Return the report and the directory that it was written to.

    :raises UserError: a model is missing or cannot be used. Then nothing is written.
    """
    _check_device(options.device)
    environment = describe(options.device).model_copy(update={"busy_share": busy_share()})
    cpus = choose_cpus(recipe.bench.threads)
    corpus = load_student_corpus(recipe)
    bundle = options.bundle or options.workspace / "bundle"
    roster = Roster(
        Task(options.workspace / "teacher", bundle, corpus, recipe.target.max_length, options.device, options.baseline)
    )
    names = select(roster.names(), options.only, options.skip)
    with Workspace(options.workspace).locked():
        engines = roster.engines(names)
        _check_lengths(engines, recipe.bench.lengths)
        jobs = [
            Job(
                spec=engine,
                device=options.device,
                threads=recipe.bench.threads,
                cpus=cpus,
                lengths=recipe.bench.lengths,
                batch_size=recipe.bench.batch_size,
                seconds=recipe.bench.seconds,
                texts=own_texts(corpus, recipe),
                scored=labelled(corpus) if engine.scored else None,
            )
            for engine in engines
        ]
        results = _run(jobs)
        report = Report(
            name=recipe.name,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            command=shlex.join(["python", "-m", "bench", *sys.argv[1:]]),
            device=options.device,
            threads=recipe.bench.threads,
            cpus=cpus,
            batch_size=recipe.bench.batch_size,
            seconds=recipe.bench.seconds,
            own_texts=len(jobs[0].texts),
            split=corpus.report_split,
            environment=environment,
            engines=results,
        )
        out = options.out or options.workspace / "bench"
        write_report(report, out)
        write_plot(report, out)
    return report, out


def _check_lengths(engines: list[Engine], lengths: list[int]) -> None:
    for engine in engines:
        if max(lengths) > engine.max_length:
            raise UserError(
                f"bench.lengths: {engine.name} takes {engine.max_length} tokens at most, not {max(lengths)}"
            )


def _run(jobs: list[Job]) -> list[EngineResult]:
    results = []
    with console.status("") as status:
        for job in jobs:
            result = run_isolated(job, lambda what, title=job.spec.title: status.update(f"{title}: {what}"))  # type: ignore[misc]
            console.print(f"[green]✓[/] {job.spec.title}")
            results.append(result)
    return results


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
