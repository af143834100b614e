"""A fresh process for each engine, with its threads pinned: `python -m bench.isolate JOB.json`, which `Comparison` speaks to.

In one process, the engines would share thread pools, allocators and memory, and their order would matter. A child
process starts from nothing. Two things limit its threads to `bench.threads`:
- Every library is told. torch and ONNX Runtime have settings for it. OpenMP, BLAS and the tokenizers' Rayon read
  environment variables when they are imported, so these are set before the child starts.
- The child may use only that many CPUs. They are on different physical cores if there are enough. So no library gets an
  extra core by a helper thread, and no measured thread moves to another core.
A pinned thread cannot leave a busy CPU. So the machine must be idle, for every engine.

The processes take turns: while one measures, the others wait for their standard input.
"""

# No large import at the top: the child must limit its CPUs before a library starts threads.
from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from compress.runtime.errors import UserError

if TYPE_CHECKING:
    from bench.cells import Job

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",
)


def choose_cpus(threads: int) -> list[int] | None:
    """As many CPUs as threads, each on its own physical core as long as there are cores. None: the system cannot pin.

    The core of CPU 0 is taken last, because it handles most interrupts.

    :raises UserError: this process may use fewer CPUs than threads.
    """
    if not hasattr(os, "sched_getaffinity"):
        return None
    allowed = sorted(os.sched_getaffinity(0))
    if threads > len(allowed):
        usable = f"this process may use {len(allowed)} CPUs; --set bench.threads={len(allowed)}"
        raise UserError(f"bench.threads: {threads} threads, but {usable}")
    cores: dict[str, list[int]] = {}
    for cpu in allowed:
        cores.setdefault(_core(cpu), []).append(cpu)
    by_core = sorted(cores.values(), key=lambda cpus: (0 in cpus, cpus))
    in_order = [cpus[rank] for rank in range(len(allowed)) for cpus in by_core if rank < len(cpus)]
    return sorted(in_order[:threads])


def child_environment(threads: int) -> dict[str, str]:
    """The environment of a measuring process."""
    root = str(Path(__file__).resolve().parents[1])
    return {
        **os.environ,
        **dict.fromkeys(_THREAD_VARIABLES, str(threads)),
        "TOKENIZERS_PARALLELISM": "true" if threads > 1 else "false",
        "HF_HUB_OFFLINE": "1",  # all files are on the disk now, so nothing may wait for a network
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
    }


class Worker:
    """The process of one engine. Leaving the context ends it.

    It is in a session of its own, so that Ctrl-C reaches this process only, which keeps what was measured.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self._directory = tempfile.TemporaryDirectory(prefix="pocketbert-bench-")
        job_file, self._log = Path(self._directory.name) / "job.json", Path(self._directory.name) / "stderr"
        job_file.write_text(job.model_dump_json(), encoding="utf-8")
        with self._log.open("w") as errors:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "bench.isolate", str(job_file)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                encoding="utf-8",
                env=child_environment(job.threads),
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.kill()
        self._child.communicate()
        self._directory.cleanup()

    def ask(self, method: str, *arguments: int) -> Any:
        """Call a method of the process's `EngineBench`, or read an attribute of it; returns what it gave, as JSON has it.

        :raises UserError: the engine cannot be opened or measured, or its process died.
        """
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        try:
            self._child.stdin.write(json.dumps([method, *arguments]) + "\n")
            self._child.stdin.flush()
        except BrokenPipeError:
            answer = ""
        else:
            answer = self._child.stdout.readline()
        if answer:
            return json.loads(answer)
        status = self._child.wait()
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        reason = lines[-1].removeprefix("error: ") if lines else f"killed by signal {-status} (out of memory?)"
        name = self.job.spec.name
        raise UserError(f"{name}: {reason}; --skip {name} leaves it out")


def _core(cpu: int) -> str:
    """Name of the physical core of a CPU: the list of the CPUs on it."""
    try:
        return Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)


def _main(job_file: Path) -> None:
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    text = job_file.read_text(encoding="utf-8")
    if (cpus := json.loads(text)["cpus"]) is not None:
        os.sched_setaffinity(0, cpus)
    from pydantic import BaseModel

    from bench.cells import EngineBench, Job

    engine = EngineBench(Job.model_validate_json(text))
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        found = getattr(engine, name)
        answer = found(*arguments) if callable(found) else found
        shown = answer.model_dump(mode="json") if isinstance(answer, BaseModel) else answer
        print(json.dumps(shown), file=channel, flush=True)


if __name__ == "__main__":
    try:
        _main(Path(sys.argv[1]))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
