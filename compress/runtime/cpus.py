"""The CPUs that this process may use, and how the threads of a training wait for each other."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")
# How often a thread of libgomp looks whether there is new work before it sleeps; by itself it looks 300,000 times. On a core with two
# CPUs that takes time from the thread that does the work in between (docs/findings.md, "Training time").
_SPINS = "10000"


def own_cpus() -> int:
    """How many CPUs this process may use: those that it is pinned to, or fewer if its container has a quota. At least 1."""
    pinned = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(pinned, _quota())))


def spin_briefly() -> None:
    """Let threads that wait sleep soon, unless the user has said how they wait. To be called before torch is imported."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)


def _quota() -> float:
    """The CPUs' time that the control groups (1 or 2) of this process leave it, in CPUs; infinite without one."""
    try:
        lines = _OWN_CGROUP.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:  # not Linux
        return float("inf")
    found = [float("inf")]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = (
            _CGROUPS / "cpu" if controllers else _CGROUPS
        )  # of version 1: a link to where the group's controllers are
        place = root / path.lstrip("/")
        # Each group above may have a quota too. In a container the path is often that of the host, and only the root is there.
        for group in (place, *place.parents):
            found.append(_quota_of(group, controllers))
            if group == root:
                break
    return min(found)


def _quota_of(group: Path, controllers: str) -> float:
    try:
        if controllers:  # version 1
            quota, period = (
                (group / f"cpu.cfs_{name}_us").read_text(encoding="ascii").strip() for name in ("quota", "period")
            )
        else:
            quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
        return float("inf") if quota in ("max", "-1") else int(quota) / int(period)
    except (OSError, ValueError):  # no such group, or no limit can be read
        return float("inf")
