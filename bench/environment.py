"""The machine and the software a measurement was made with."""

from __future__ import annotations

import os
import platform
import subprocess
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
BUSY_SHARE = 0.5  # of the CPUs


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
    load_average: float | None  # over the minute before the first measurement

    @property
    def busy(self) -> bool:
        """Whether something kept more than half of the CPUs busy just before, so that no time is to be trusted."""
        return self.load_average is not None and self.load_average > BUSY_SHARE * self.logical_cpus


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
        load_average=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    )


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
