"""Whether other programs use the machine, for measurements and forecasts of time."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

BUSY_SHARE = 0.25  # if other work uses a larger share of the CPUs, no time can be trusted
WATCHED_S = 1.0  # before a measurement


def busy_share(cpus: Sequence[int] | None = None, seconds: float | None = None) -> float:
    """Share (0 … 1) of all CPUs that is in use over the next moment, or of `cpus` if that is more. This process sleeps meanwhile.

    The load average would be wrong here: for minutes it still counts trainings that have finished.

    :param cpus: what is measured is pinned to these. One busy CPU is a small share of a large machine, but all of what is measured.
    :param seconds: that are watched; default: `WATCHED_S`.
    """
    import psutil

    used = psutil.cpu_percent(interval=WATCHED_S if seconds is None else seconds, percpu=True)
    own = [used[cpu] for cpu in cpus or () if cpu < len(used)]
    return max(fmean(used), fmean(own or [0.0])) / 100
