"""The machine and the software that a measurement was made with."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cpuinfo import get_cpu_info
from pydantic import BaseModel

from compress import __version__
from compress.busy import BUSY_SHARE

PACKAGES = ("torch", "transformers", "onnxruntime", "onnxruntime-gpu", "onnx", "tokenizers", "nanotoken", "numpy")
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


def typed_command(arguments: list[str] | None = None) -> str:
    """The command that this process was started with, as a reader can type it again.

    :param arguments: those to show. None: the process's own.
    """
    program, shown = Path(sys.argv[0]), sys.argv[1:] if arguments is None else arguments
    # The script of pip, or `python -m pocketbert`.
    is_pocketbert = program.name == "pocketbert" or program.parts[-2:] == ("pocketbert", "__main__.py")
    return shlex.join([*(["pocketbert"] if is_pocketbert else ["python", "-m", "bench"]), *shown])


class Environment(BaseModel):
    """What a reader needs to judge a time, or to measure it again."""

    cpu: str
    simd: list[str]
    logical_cpus: int
    memory_bytes: int | None
    gpu: str | None  # None: the engines ran on the CPU
    system: str
    python: str
    packages: dict[str, str]
    pocketbert: str
    commit: str | None  # "+" at the end: there were uncommitted changes; None: no git checkout
    busy_share: float | None = None  # see `busy_share`, just before the first measurement; None: not measured

    @property
    def busy(self) -> bool:
        """Whether other work used so much of the machine that no time can be trusted."""
        return self.busy_share is not None and self.busy_share > BUSY_SHARE

    @property
    def warning(self) -> str | None:
        """Why the times cannot be trusted; None if they can."""
        if not self.busy:
            return None
        return (
            f"The machine was busy when this run started ({self.busy_share:.0%} of its CPUs, or of those it is pinned to, in use by other "
            "work): its times are not valid. Wait until it is idle and run the command again."
        )


def describe(device: str) -> Environment:
    """Describe this machine as it is now.

    Call it before a training or a measurement starts: the commit may change while that runs.

    :param device: "cpu" or "cuda"; with "cuda" the GPU's name is included.
    """
    import psutil

    return Environment(
        cpu=cpu_name(),
        simd=[flag for flag in SIMD if flag in cpu_flags()],
        logical_cpus=psutil.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        gpu=_gpu_name() if device == "cuda" else None,
        system=platform.platform(),
        python=platform.python_version(),
        packages={name: found for name in PACKAGES if (found := _version(name))},
        pocketbert=__version__,
        commit=_commit(),
    )


def cpu_name() -> str:
    """What the CPU is called."""
    return _cpu_info().get("brand_raw") or platform.processor() or platform.machine()


def cpu_flags() -> set[str]:
    """Instruction sets of the CPU, by the names that Linux gives them. Empty if the system does not tell."""
    return set(_cpu_info().get("flags", ()))


@cache  # it starts other processes to ask the CPU, and takes about a second
def _cpu_info() -> dict[str, Any]:
    return get_cpu_info()


def _gpu_name() -> str:
    import torch

    return torch.cuda.get_device_name(0)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Commit of this source tree; None if it is no git checkout."""

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
