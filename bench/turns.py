"""Several engines measured together: they take turns, round by round, so that what changes on the machine meets all alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

from bench.cells import Cell, EngineResult, Finished, Job, Opened, plan_cells
from bench.isolate import Worker

# A guess at the memory of an engine's process: Python with its libraries, and a model as it is loaded and prepared.
PROCESS_BYTES, COPIES_OF_MODEL = 250e6, 2


class Comparison:
    """The measurement of engines, which keeps what is finished if it is interrupted.

    :param jobs: an engine each; texts, lengths and batch size are the same in all of them.
    :param progress: is told in a few words what is being measured.
    :param interleaved: all engines are open at once and take turns. False: one after the other.
    """

    def __init__(self, jobs: list[Job], progress: Callable[[str], None], *, interleaved: bool = True) -> None:
        self._jobs, self._progress, self.interleaved = jobs, progress, interleaved
        self._opened: dict[str, Opened] = {}
        self._cells: dict[str, list[Cell]] = {job.spec.name: [] for job in jobs}
        self._finished: dict[str, Finished] = {}

    def run(self) -> list[EngineResult]:
        """Measure all engines.

        :raises UserError: an engine cannot be opened, or its process died.
        """
        for together in [self._jobs] if self.interleaved else [[job] for job in self._jobs]:
            with ExitStack() as processes:
                self._run([processes.enter_context(Worker(job)) for job in together])
        return self.results()

    def results(self) -> list[EngineResult]:
        """What was measured so far, of each engine that was opened."""
        return [
            EngineResult(
                spec=job.spec,
                **opened.model_dump(),
                **(self._finished.get(name) or Finished(peak_memory_bytes=None, accuracy=None)).model_dump(),
                cells=self._cells[name],
            )
            for job in self._jobs
            if (opened := self._opened.get(name := job.spec.name))
        ]

    def missing(self) -> str:
        """How much was measured, for a report that was interrupted."""
        taken, wanted = sum(map(len, self._cells.values())), sum(len(plan_cells(job)) for job in self._jobs)
        return f"{taken} of {wanted} cells and {len(self._finished)} of {len(self._jobs)} accuracies were measured"

    def _run(self, workers: list[Worker]) -> None:
        for worker in workers:  # one after the other: they have the same CPUs
            self._say(worker, "loading")
            self._opened[worker.job.spec.name] = Opened.model_validate(worker.ask("opened"))
        timed = [worker for worker in workers if worker.job.spec.timed]
        for number, plan in enumerate(plan_cells(timed[0].job) if timed else []):
            what = f"{plan.input}, batch {plan.batch_size}"
            for worker in timed:
                self._say(worker, f"{what}, warm-up")
                worker.ask("start", number)
            for turn in range(plan.rounds):
                # There and back, so that a steady drift is the same for all on average.
                for worker in timed if turn % 2 == 0 else reversed(timed):
                    self._say(worker, f"{what}, round {turn + 1} of {plan.rounds}")
                    worker.ask("round", turn)
            for worker in timed:
                self._cells[worker.job.spec.name].append(Cell.model_validate(worker.ask("cell")))
        for worker in workers:
            self._say(worker, "accuracy")
            self._finished[worker.job.spec.name] = Finished.model_validate(worker.ask("finish"))

    def _say(self, worker: Worker, what: str) -> None:
        self._progress(f"{worker.job.spec.title}: {what}")


def run_alone(job: Job, progress: Callable[[str], None]) -> EngineResult:
    """Measure one engine.

    :raises UserError: it cannot be opened, or its process died.
    """
    return Comparison([job], progress).run()[0]


def fits_in_memory(paths: Iterable[Path]) -> bool:
    """Whether the processes of so many engines have room together, by a guess from the sizes of their files."""
    import psutil

    needed = sum(PROCESS_BYTES + COPIES_OF_MODEL * _bytes(path) for path in paths)
    return bool(needed < psutil.virtual_memory().available)


def _bytes(path: Path) -> int:
    """Size of the largest file: a bundle holds its model in several precisions, and only one is loaded."""
    files = path.iterdir() if path.is_dir() else [path]
    return max((file.stat().st_size for file in files if file.is_file()), default=0)
