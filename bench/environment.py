"""The machine and the software a measurement was made with."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import BaseModel

from compress import __version__

PACKAGES = ("torch", "transformers", "onnxruntime", "onnxruntime-gpu", "optimum-onnx", "tokenizers", "numpy")
# The instruction sets that decide how fast float and 8-bit matrix products are.
SIMD = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx_vnni",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimddp",
    "i8mm",
    "sve",
)
BUSY_SHARE = 0.25  # of the CPUs: more than that, used by others, and a time is not to be trusted
_WATCHED_S = 1.0


class Environment(BaseModel):
    """What a reader needs to judge a time, or to take it again."""

    cpu: str
    simd: list[str]
    logical_cpus: int
    memory_bytes: int | None
    gpu: str | None  # only where the engines ran on one
    system: str
    python: str
    packages: dict[str, str]
    pocketbert: str
    commit: str | None  # "+" at the end: with uncommitted changes
    busy_share: float | None = None  # of the CPUs, in use just before the first measurement; None: not looked at

    @property
    def busy(self) -> bool:
        """Whether other work kept so much of the machine busy that no time is to be trusted."""
        return self.busy_share is not None and self.busy_share > BUSY_SHARE


def describe(device: str) -> Environment:
    """Describe this machine as it is now; call it before anything heavy starts."""
    return Environment(
        cpu=_cpu_model(),
        simd=[flag for flag in SIMD if flag in cpu_flags()],
        logical_cpus=os.cpu_count() or 1,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if "SC_PHYS_PAGES" in os.sysconf_names
        else None,
        gpu=_gpu_name() if device == "cuda" else None,
        system=platform.platform(),
        python=platform.python_version(),
        packages={name: found for name in PACKAGES if (found := _version(name))},
        pocketbert=__version__,
        commit=_commit(),
    )


def busy_share() -> float | None:
    """Share of all CPUs in use over the next second, in which this process sleeps; None where Linux is not there to tell.

    Not the load average: it still remembers the trainings that this command has just finished.
    """
    before = _cpu_times()
    time.sleep(_WATCHED_S)
    after = _cpu_times()
    if before is None or after is None:
        return None
    idle, total = after[0] - before[0], after[1] - before[1]
    return 1 - idle / total if total else None


def _cpu_times() -> tuple[int, int] | None:
    """Idle and total time of all CPUs since the start, in ticks."""
    path = Path("/proc/stat")
    if not path.exists():
        return None
    # user nice system idle iowait irq softirq steal; what follows is part of user
    times = [int(value) for value in path.read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
    return times[3] + times[4], sum(times)


def cpu_flags() -> set[str]:
    """Instruction sets of the CPU as Linux names them; empty elsewhere."""
    return set(_cpuinfo("flags").split()) | set(_cpuinfo("Features").split())


def _cpu_model() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpuinfo(key: str) -> str:
    """First value of `key` in /proc/cpuinfo, or an empty string."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return next(
        (value.strip() for line in lines for name, _, value in [line.partition(":")] if name.strip() == key), ""
    )


def _gpu_name() -> str:
    import torch

    return torch.cuda.get_device_name(0)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Commit of this source tree; None where it is no git checkout."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    head = git("rev-parse", "--short=12", "HEAD")
    return head + ("+" if git("status", "--porcelain", "--untracked-files=no") else "") if head else None
