"""The second pass: time the kept bundles, once nothing else runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench.baseline import BaselineOptions
from bench.cells import Job
from bench.compare import own_texts
from bench.engines import EngineSpec
from bench.environment import Environment
from bench.isolate import choose_cpus, run_isolated
from bench.roster import Roster
from compress.data.corpus import Corpus
from compress.pipeline.workspace import Workspace
from compress.recipe import Recipe
from export.bundle import MANIFEST, Bundle

SECONDS = 1.0  # of measuring; there is always one whole pass over the texts


def is_kept(workspace: Workspace, *, teacher: bool) -> bool:
    """Whether what is to be timed is still among the artifacts."""
    return (workspace.root / ("teacher/config.json" if teacher else f"bundle/{MANIFEST}")).is_file()


def measure_latency(
    recipe: Recipe, corpus: Corpus, workspace: Workspace, *, teacher: bool, progress: Callable[[str], None]
) -> tuple[float, str]:
    """p50 in ms at batch 1 over the task's own texts, tokenisation included, and the precision that was timed.

    In a process of its own on one pinned thread, as `bench compare` does it: INT8 if the bundle has it, or else its
    default; the teacher in PyTorch fp32.

    :raises UserError: the model cannot be opened.
    """
    spec = _spec(recipe, corpus.labels, workspace.root, teacher)
    job = Job(
        spec=spec,
        device="cpu",
        threads=1,
        cpus=choose_cpus(1),
        lengths=[],
        batch_size=1,
        seconds=SECONDS,
        texts=own_texts(corpus, recipe),
        scored=None,
    )
    single, *_ = run_isolated(job, progress).cells
    ms = single.summary.total_ms["p50"]
    assert ms is not None  # p50 needs one sample only
    return round(ms, 4), spec.precision


def _spec(recipe: Recipe, labels: list[str], root: Path, teacher: bool) -> EngineSpec:
    roster = Roster(root / "teacher", root / "bundle", labels, recipe.target.max_length, "cpu", BaselineOptions())
    if teacher:
        return roster.spec("teacher-torch")
    manifest = Bundle(root / "bundle").manifest
    return roster.spec(f"student-{'int8' if 'int8' in manifest.models else manifest.default}")


def describe_machine(environment: Environment, threads: int | None = None) -> str:
    """The machine in a line: CPU, its number and instruction sets, threads of a training, GPU."""
    simd = f" ({', '.join(environment.simd)})" if environment.simd else ""
    parts = [f"{environment.cpu}, {environment.logical_cpus} CPUs{simd}"]
    if threads is not None:
        parts.append("1 thread" if threads == 1 else f"{threads} threads")
    return ", ".join([*parts, *([environment.gpu] if environment.gpu else [])])
