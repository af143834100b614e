"""One call of `bench table`: train the runs that are not finished, compare students with teachers, measure latencies."""

from __future__ import annotations

import gc
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.environment import Environment, describe
from bench.isolate import choose_cpus
from bench.tables.latency import describe_machine, is_kept, measure_latency
from bench.tables.results import Entry, Results
from bench.tables.table import Run, Table, select
from bench.tables.train import Outcome, run_key, student_logits, teacher_logits, train, workspace_of
from compress.busy import BUSY_SHARE, busy_share
from compress.console import console
from compress.data.corpus import Corpus, load_corpus
from compress.data.domains import student_corpus
from compress.recipe import Recipe
from compress.recipe.sections import DataOptions
from compress.runtime.errors import UserError
from export.bundle import Bundle

PACKAGES = ("torch", "transformers", "onnxruntime", "onnxruntime-gpu")  # a result depends on their versions


@dataclass(frozen=True)
class TableOptions:
    """What the command line adds to a table."""

    data: Path | None = None  # the folder with the files of the table's columns
    results: Path = Path("bench/results")
    artifacts: Path = Path("artifacts")
    only: str = ""
    force: bool = False
    latency: bool = True


@dataclass(frozen=True)
class Planned:
    """A run with its recipe and its state."""

    run: Run
    recipe: Recipe
    search: Recipe | None  # the search of this recipe gives the architecture; None: that of `recipe` does
    key: str  # see `run_key`
    state: str  # "finished", "changed" (finished, but with other inputs) or "to do"


def plan(table: Table, options: TableOptions) -> list[Planned]:
    """The runs that `options.only` selects, in the order of their training.

    :raises UserError: `only` matches no run, a file is missing, or a recipe is wrong.
    """
    results = Results(table, options.results)
    planned = []
    for run in select(list(table.runs()), options.only):
        recipe = table.recipe(run, options.data)
        search = table.search_recipe(run, options.data)
        key = run_key(table, run, recipe, search)
        planned.append(Planned(run, recipe, search, key, _state(table, run, key, results)))
    return planned


def run_table(table: Table, options: TableOptions) -> list[str]:
    """Train every planned run that is not finished. Then measure the agreements and latencies that are missing.

    Results are written after every run. Whoever stops the command loses the stage at work only. A run that fails does not
    stop the others.

    :return: one line for each failure.
    :raises UserError: see `plan`; then nothing was trained.
    """
    planned = plan(table, options)
    invocation = _Invocation(table, options, Results(table, options.results))
    todo = [p for p in planned if options.force or p.state != "finished"]
    console.print(f"{table.name}: {len(planned)} runs, {len(planned) - len(todo)} of them finished")
    for number, item in enumerate(todo, 1):
        invocation.train(item, f"{number}/{len(todo)}")
    invocation.compare(planned)
    if options.latency:
        invocation.measure(planned)
    return invocation.failed


@dataclass
class _Invocation:
    table: Table
    options: TableOptions
    results: Results
    failed: list[str] = field(default_factory=list)
    retrained: set[Run] = field(default_factory=set)
    _started: float = field(default_factory=time.monotonic)
    _environment: Environment | None = None

    def train(self, item: Planned, number: str) -> None:
        """Make one run, from its first missing stage to its entries in the results."""
        # Look again: another command may have finished this run in the meantime.
        if not self.options.force and _state(self.table, item.run, item.key, self.results) == "finished":
            console.print(f"[bold]{number} {item.run}[/]: finished by another command")
            return
        why = ": its inputs have changed, so it is made again" if item.state == "changed" else ""
        console.print(f"[bold]{number} {item.run}[/]{why}")
        environment = self._describe()
        try:
            outcome = train(
                self.table,
                item.run,
                item.recipe,
                self.options.artifacts,
                search=item.search,
                force=self.options.force,
            )
        except UserError as error:
            self._fail(item.run, str(error))
            return
        except Exception as error:  # a table takes hours: a bug in one method must not stop the others
            traceback.print_exc()
            self._fail(item.run, f"{type(error).__name__}: {error}")
            return
        finally:
            gc.collect()
        self._record(item, outcome, environment)

    def _record(self, item: Planned, outcome: Outcome, environment: Environment) -> None:
        old = {entry.metric: entry for entry in self.results.of(item.run)}
        packages = {name: found for name in PACKAGES if (found := environment.packages.get(name))}
        entries = [
            Entry(
                table=self.table.name,
                method=item.run.method,
                data=item.run.data,
                seed=item.run.seed,
                metric=metric,
                value=outcome.values[metric],
                split=outcome.split,
                seconds=outcome.seconds,
                parameters=outcome.parameters,
                # The same inputs give the same graph, so the old latency is valid until it is measured again.
                latency_ms=old[metric].latency_ms if metric in old and old[metric].key == item.key else None,
                latency_of=old[metric].latency_of if metric in old and old[metric].key == item.key else None,
                machine=describe_machine(environment, _threads()),
                versions={"python": environment.python, "pocketbert": environment.pocketbert, **packages},
                commit=environment.commit,
                date=datetime.now(UTC).date().isoformat(),
                key=item.key,
            )
            for metric in self.table.metrics_of(item.run)
        ]
        self.results.put(entries)
        self.retrained.add(item.run)
        elapsed = timedelta(seconds=round(time.monotonic() - self._started))
        values = ", ".join(f"{e.metric} {100 * e.value:.2f}{_compared(e, old.get(e.metric))}" for e in entries)
        training = "" if outcome.seconds is None else f"{outcome.seconds:.0f} s of training, "
        console.print(f"[green]✓ {item.run}[/]: {values} ({training}{elapsed} since the start)")

    def compare(self, planned: list[Planned]) -> None:
        """Compare students with their teachers, if both models are still there: how often the labels agree, how far the answers lie apart."""
        known: dict[
            tuple[Path, str], NDArray[np.float32]
        ] = {}  # of one teacher only: runs with the same teacher are neighbours
        for item in planned:
            entries, workspace = self.results.of(item.run), workspace_of(self.table, item.run, self.options.artifacts)
            finished = _state(self.table, item.run, item.key, self.results) == "finished"
            if not finished or self.table.method[item.run.method].stop is not None:
                continue
            kept = is_kept(workspace, teacher=False) and is_kept(workspace, teacher=True)
            if all(entry.distance is not None for entry in entries) or not kept:
                continue
            split = _student_corpus(item.recipe).splits[entries[0].split]
            teacher = ((workspace.root / "teacher").resolve(), item.recipe.target.model_dump_json())
            try:
                if teacher not in known:
                    known = {teacher: teacher_logits(teacher[0], item.recipe.target.max_length, split)}
                bundle = Bundle(workspace.root / "bundle")
                compared = [
                    _compare(student_logits(bundle, precision, split), known[teacher])
                    for precision in self.table.precisions_of(item.run.method)
                ]
            except UserError as error:
                self._fail(item.run, f"comparison with the teacher: {error}")
                continue
            pairs = zip(entries, compared, strict=True)
            self.results.put([entry.model_copy(update=found) for entry, found in pairs])

    def measure(self, planned: list[Planned]) -> None:
        """Measure the latency of every method and column, with the first seed only: other seeds give similar ones."""
        with console.status("") as status:
            for item in self._untimed(planned):
                share = busy_share(choose_cpus(1))  # see `measure_engine`
                if share > BUSY_SHARE:
                    console.print(
                        f"[yellow]latency: not measured, {share:.0%} of the CPUs are busy with other work; "
                        "run the same command again when the machine is idle[/]"
                    )
                    return
                self._measure(item, lambda what, run=item.run: status.update(f"{run}: {what}"))  # type: ignore[misc]

    def _measure(self, item: Planned, progress: Callable[[str], None]) -> None:
        teacher = self.table.method[item.run.method].stop == "teacher"
        workspace = workspace_of(self.table, item.run, self.options.artifacts)
        corpus = _student_corpus(item.recipe)
        try:
            ms, precision = measure_latency(item.recipe, corpus, workspace, teacher=teacher, progress=progress)
        except UserError as error:
            self._fail(item.run, f"latency: {error}")
            return
        what = f"{precision}, {describe_machine(describe('cpu'))}"
        self.results.put(
            [e.model_copy(update={"latency_ms": ms, "latency_of": what}) for e in self.results.of(item.run)]
        )
        console.print(f"[green]✓ {item.run}[/]: {ms:.3g} ms ({precision})")

    def _untimed(self, planned: list[Planned]) -> Iterator[Planned]:
        """Finished runs that have no latency, or were just made again with `--force`, and whose models are still there."""
        for item in planned:
            entries, stop = self.results.of(item.run), self.table.method[item.run.method].stop
            if stop in ("linear", "frozen"):
                continue
            if item.run.seed != self.table.seeds_of(item.run.data)[0] or not entries or entries[0].key != item.key:
                continue
            again = self.options.force and item.run in self.retrained
            if entries[0].latency_ms is not None and not again:
                continue
            workspace = workspace_of(self.table, item.run, self.options.artifacts)
            if is_kept(workspace, teacher=stop == "teacher"):
                yield item
            else:
                console.print(
                    f"[yellow]latency: {item.run}: not measured, its model is no longer in {workspace.root}; "
                    "--force makes it again[/]"
                )

    def _describe(self) -> Environment:
        """The machine and the commit at the start of the first training: the code of that commit is running."""
        if self._environment is None:
            import torch

            self._environment = describe("cuda" if torch.cuda.is_available() else "cpu")
        return self._environment

    def _fail(self, run: Run, why: str) -> None:
        line = f"{run}: {' '.join(why.split())}"
        self.failed.append(line)
        console.print(f"✗ {line}", style="bold red", markup=False)


def _compare(student: NDArray[np.float32], teacher: NDArray[np.float32]) -> dict[str, float]:
    """`agreement` and `distance` of an entry, from the logits of both (N, C)."""
    import torch

    from compress.training.evaluation import distance

    same = float((student.argmax(axis=1) == teacher.argmax(axis=1)).mean())
    apart = float(distance(torch.from_numpy(student), torch.from_numpy(teacher)))
    return {"agreement": round(same, 5), "distance": round(apart, 5)}


def _state(table: Table, run: Run, key: str, results: Results) -> str:
    entries = results.of(run)
    if any(entry.key != key for entry in entries):
        return "changed"
    return "finished" if len(entries) == len(table.metrics_of(run)) else "to do"


def _compared(entry: Entry, old: Entry | None) -> str:
    """The value of the last time, and the difference to it; empty if the run is new."""
    if old is None:
        return ""
    difference = 100 * (entry.value - old.value)
    return f" (was {100 * old.value:.2f}: {'the same' if entry.value == old.value else f'{difference:+.2f}'})"


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _student_corpus(recipe: Recipe) -> Corpus:
    return student_corpus(recipe, _corpus(recipe.target.model_dump_json()))


@lru_cache(maxsize=1)  # runs with the same data are neighbours
def _corpus(options: str) -> Corpus:
    return load_corpus(DataOptions.model_validate_json(options))
