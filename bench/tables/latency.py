"""Latency of a run's model. It is measured after all trainings, when nothing else runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench.baseline import BaselineOptions
from bench.cells import EngineResult, Job, Labelled
from bench.compare import own_texts
from bench.engines import BundleEngine, Engine, TorchEngine
from bench.environment import Environment
from bench.inputs import Texts
from bench.isolate import choose_cpus
from bench.task import Task
from bench.turns import run_alone
from compress.data.corpus import Corpus
from compress.pipeline.workspace import Workspace
from compress.recipe import Recipe
from export.bundle import MANIFEST

SECONDS = 1.0  # a model is measured for so long, but for at least one pass over the texts


def is_kept(workspace: Workspace, *, teacher: bool) -> bool:
    """Whether the teacher, or the student's bundle, is still in the workspace."""
    return (workspace.root / ("teacher/config.json" if teacher else f"bundle/{MANIFEST}")).is_file()


def measure_latency(
    recipe: Recipe, corpus: Corpus, workspace: Workspace, *, teacher: bool, progress: Callable[[str], None]
) -> tuple[float, str]:
    """p50 in ms at batch 1 over the task's own texts, tokenisation included, and the precision that was timed.

    A student is timed in INT8 if its bundle has it, else in the bundle's default precision. A teacher is timed in
    PyTorch fp32. Each has a process of its own with one pinned thread, as in `pocketbert bench`.

    :param progress: is told in a few words what is being measured.
    :raises UserError: the model cannot be opened.
    """
    engine = _engine(recipe, corpus, workspace.root, teacher)
    return measure_engine(engine, own_texts(corpus, recipe), progress)[0], engine.precision


def measure_engine(
    engine: Engine, texts: Texts, progress: Callable[[str], None], *, threads: int = 1, scored: Labelled | None = None
) -> tuple[float, EngineResult]:
    """p50 in ms at batch 1 over the texts, tokenisation included, and all that was measured. The engine has a process of its own.

    :param scored: also measure the accuracy on these.
    :raises UserError: the engine cannot be opened.
    """
    job = Job(
        spec=engine,
        device="cpu",
        threads=threads,
        cpus=choose_cpus(threads),
        lengths=[],
        batch_size=1,
        seconds=SECONDS,
        texts=texts,
        scored=scored,
    )
    result = run_alone(job, progress)
    ms = result.cells[0].summary.total_ms["p50"]
    assert ms is not None  # p50 needs one sample only
    return round(ms, 4), result


def _engine(recipe: Recipe, corpus: Corpus, root: Path, teacher: bool) -> Engine:
    task = Task(root / "teacher", root / "bundle", corpus, recipe.target.max_length, "cpu", BaselineOptions())
    if teacher:
        return TorchEngine.of_teacher(task)
    return BundleEngine.of_student(task, "int8" if "int8" in task.manifest.models else task.manifest.default)


def describe_machine(environment: Environment, threads: int | None = None) -> str:
    """The machine in one line: the CPU, how many there are, their instruction sets, a training's threads, the GPU."""
    simd = f" ({', '.join(environment.simd)})" if environment.simd else ""
    parts = [f"{environment.cpu}, {environment.logical_cpus} CPUs{simd}"]
    if threads is not None:
        parts.append("1 thread" if threads == 1 else f"{threads} threads")
    return ", ".join([*parts, *([environment.gpu] if environment.gpu else [])])
