"""One fresh process per engine, with its threads pinned: `python -m bench.isolate JOB.json RESULT.json`.

In one process, the engines would share thread pools, allocators and memory, and their order would matter. A child
process starts from nothing. Two things limit its threads to `bench.threads`:
- Every library is told. torch and ONNX Runtime have settings for it. OpenMP, BLAS and the tokenizers' Rayon read
  environment variables when they are imported, so these are set before the child starts.
- The child may use only that many CPUs. They are on different physical cores if there are enough. So no library gets an
  extra core by a helper thread, and no measured thread moves to another core.
A pinned thread cannot leave a busy CPU. So the machine must be idle, for every engine.
"""

# No large import at the top: the child must limit its CPUs before a library starts threads.
from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from compress.runtime.errors import UserError

if TYPE_CHECKING:
    from bench.cells import EngineResult, Job

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",
)
_PROGRESS = "progress: "


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


def run_isolated(job: Job, progress: Callable[[str], None]) -> EngineResult:
    """Measure one engine in its own process.

    :param progress: is told in a few words what is being measured.
    :raises UserError: the engine cannot be opened, or its process died.
    """
    from bench.cells import EngineResult

    with tempfile.TemporaryDirectory(prefix="pocketbert-bench-") as directory:
        job_file, result_file, log = (Path(directory) / name for name in ("job.json", "result.json", "stderr"))
        job_file.write_text(job.model_dump_json(), encoding="utf-8")
        command = [sys.executable, "-m", "bench.isolate", str(job_file), str(result_file)]
        with (
            log.open("w") as errors,
            subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, text=True, env=child_environment(job.threads)
            ) as child,
        ):
            try:
                for line in child.stdout or ():
                    if line.startswith(_PROGRESS):
                        progress(line.removeprefix(_PROGRESS).strip())
            except BaseException:
                child.kill()
                raise
        if child.returncode == 0:
            return EngineResult.model_validate_json(result_file.read_text(encoding="utf-8"))
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    reason = lines[-1].removeprefix("error: ") if lines else f"killed by signal {-child.returncode} (out of memory?)"
    raise UserError(f"{job.spec.name}: {reason}; --skip {job.spec.name} leaves it out")


def _core(cpu: int) -> str:
    """Name of the physical core of a CPU: the list of the CPUs on it."""
    try:
        return Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)


def _main(job_file: Path, result_file: Path) -> None:
    import json

    cpus = json.loads(job_file.read_text(encoding="utf-8"))["cpus"]
    if cpus is not None:
        os.sched_setaffinity(0, cpus)
    from bench.cells import Job, measure_engine

    job = Job.model_validate_json(job_file.read_text(encoding="utf-8"))
    result = measure_engine(job, lambda what: print(f"{_PROGRESS}{what}", flush=True))
    result_file.write_text(result.model_dump_json(), encoding="utf-8")


if __name__ == "__main__":
    try:
        _main(Path(sys.argv[1]), Path(sys.argv[2]))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
