"""Whether other programs use the machine, for measurements, forecasts of time and the number of threads."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from functools import cache
from statistics import fmean

from compress.console import console
from compress.runtime.cpus import own_cpus

BUSY_SHARE = 0.25  # if other work uses a larger share of the CPUs, no time can be trusted
WATCHED_S = 1.0  # before a measurement
GLANCE_S = 0.3  # before each stage of a run
THREADS = "OMP_NUM_THREADS"


def busy_share(cpus: Sequence[int] | None = None, seconds: float | None = None) -> float:
    """Share (0 … 1) of all CPUs that is in use over the next moment, or of `cpus` if that is more. This process sleeps meanwhile.

    The load average would be wrong here: for minutes it still counts trainings that have finished.

    :param cpus: what is measured is pinned to these. One busy CPU is a small share of a large machine, but all of what is measured.
    :param seconds: that are watched; default: `WATCHED_S`.
    """
    used = _used(WATCHED_S if seconds is None else seconds)
    own = [used[cpu] for cpu in cpus or () if cpu < len(used)]
    return max(fmean(used), fmean(own or [0.0]))


def use_free_cpus() -> int:
    """Let torch compute on as many threads as there are CPUs that no other program uses now; returns their number.

    All threads of an operation wait for the last one. If one of them shares its CPU with another program, a training on two threads
    takes four times as long as on one. A container's quota counts too, which torch does not know of. Nothing is changed if
    `OMP_NUM_THREADS` says how many threads there are. This process sleeps for `GLANCE_S` seconds.
    """
    import torch

    if THREADS in os.environ:
        return torch.get_num_threads()
    most = min(_threads_of_torch(), own_cpus())
    started = time.process_time()
    used = _used(GLANCE_S)
    own = (time.process_time() - started) / GLANCE_S  # threads of this process that still wait for work
    pinned = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(len(used))
    free = own + sum(1 - used[cpu] for cpu in pinned if cpu < len(used))
    threads = min(most, max(1, round(free)))
    if threads != torch.get_num_threads():
        torch.set_num_threads(threads)
        if threads < most:
            console.print(
                f"  other programs use the CPUs: {threads} of {most} threads from here on; {THREADS}={most} is for all of them"
            )
        else:
            console.print(f"  {threads} threads from here on")
    return threads


@cache
def _threads_of_torch() -> int:
    """The threads that torch takes by itself."""
    import torch

    return torch.get_num_threads()


def _used(seconds: float) -> list[float]:
    """Share (0 … 1) of each CPU that is in use over the next moment."""
    import psutil

    return [percent / 100 for percent in psutil.cpu_percent(interval=seconds, percpu=True)]
