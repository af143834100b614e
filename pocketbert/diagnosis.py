"""What this machine and this installation can do, what is missing for which feature, and how to get it."""

from __future__ import annotations

import json
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import Requirement

from compress import __version__
from compress.html import html_table
from compress.runtime.cpus import own_cpus
from compress.runtime.errors import UserError
from compress.runtime.wordpiece import PACKAGE as NANOTOKEN
from compress.runtime.wordpiece import nanotoken_version

# Any of these gives the module `onnxruntime`.
ONNX_RUNTIMES = ("onnxruntime", "onnxruntime-gpu")
# A capability that makes a difference, the flags that mean it, and what having it and lacking it means here.
SIMD = (
    (
        "AVX2 or NEON",
        ("avx2", "asimd"),
        "fast INT8 and fp32",
        "INT8 may be slower than fp32 here: measure both with `pocketbert bench`",
    ),
    (
        "VNNI or dot products",
        ("avx512_vnni", "avx_vnni", "asimddp", "i8mm", "amx_int8"),
        "8-bit products in one instruction",
        "INT8 works, and gains less than on a CPU that has them",
    ),
    ("bf16", ("avx512_bf16", "amx_bf16"), "training in bf16", "training in fp32"),
)


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis."""

    what: str
    state: Literal["yes", "no", "info"]
    found: str
    cure: str = ""  # how to get what is missing


@dataclass(frozen=True)
class Diagnosis:
    """What `pocketbert doctor` shows."""

    machine: list[Finding]
    features: list[Finding]

    def as_dict(self) -> dict[str, Any]:
        """The findings as plain JSON types."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """The findings, with the cure below what is missing."""
        for title, findings in (("This machine", self.machine), ("What works", self.features)):
            yield title
            width = max(len(finding.what) for finding in findings)
            for finding in findings:
                mark = {"yes": "✓", "no": "✗", "info": " "}[finding.state]
                yield f"  {mark} {finding.what:{width}}  {finding.found}"
                if finding.cure:
                    yield f"    {'':{width}}  → {finding.cure}"

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        rows = [[one.what, one.state, one.found, one.cure] for one in (*self.machine, *self.features)]
        return html_table(["", "", "found", "how to get it"], rows)


def doctor() -> Diagnosis:
    """Look at this machine and this installation. Takes a few seconds, because torch is started if it is installed."""
    installed = _Installation()
    gpu, training_gpu = _gpus(installed)
    features = [
        installed.feature("ask a bundle (predict, inspect)", "cpu", base=True),
        installed.feature("serve a bundle (serve)", "cpu", base=True, modules=("bentoml",)),
        installed.fast_tokenizer(),
        installed.feature("make a student (compress, export)", "train", "cpu"),
        installed.feature("measure (bench, table)", "train", "cpu"),
        training_gpu,
        gpu,
        installed.tensorrt(),
    ]
    return Diagnosis([*_machine(), *_storage()], features)


def _machine() -> Iterator[Finding]:
    from bench.environment import cpu_flags, cpu_name

    yield Finding("pocketbert", "info", f"{__version__}, Python {platform.python_version()} in {sys.prefix}")
    flags = cpu_flags()
    yield Finding("CPU", "info", f"{cpu_name()}, {own_cpus()} CPUs for this process")
    for what, names, having, lacking in SIMD:
        present = [name for name in names if name in flags]
        if present:
            yield Finding(what, "yes", f"{', '.join(present)}: {having}")
        elif flags:
            yield Finding(what, "no", lacking)
        else:
            yield Finding(what, "info", "this system does not tell")


def _storage() -> Iterator[Finding]:
    yield Finding("disk", "info", f"{shutil.disk_usage(Path.cwd()).free / 1e9:.0f} GB free here")
    from compress.data.assets import cache_directory

    cache = cache_directory()
    there = cache.is_dir() and any(cache.iterdir())
    kept = f"in {cache}" if there else f"fetched through pip when they are first needed, into {cache}"
    yield Finding("embedded models and texts", "info", kept)


class _Installation:
    """The installed distribution of pocketbert and what it says that it needs."""

    def __init__(self) -> None:
        try:
            self._own: Distribution = distribution("pocketbert")
        except PackageNotFoundError:
            raise UserError(
                "pocketbert: is not installed in this Python; run `pip install .` in its repository"
            ) from None

    def missing(self, *extras: str, base: bool = False) -> list[str]:
        """The requirements of extras that are not installed, or too old. Without nanotoken, which nothing needs.

        :param base: also what is needed without any extra.
        """
        needed = map(Requirement, self._own.requires or [])
        return [
            str(one.name) + str(one.specifier)
            for one in needed
            if one.name != NANOTOKEN and _applies(one, extras, base) and not _is_there(one)
        ]

    def install(self, *extras: str) -> str:
        """The command that installs extras beside what is there."""
        origin = json.loads(self._own.read_text("direct_url.json") or "{}")
        if "dir_info" not in origin:
            return f"pip install 'pocketbert[{','.join(extras)}]'"
        editable = "-e " if origin["dir_info"].get("editable") else ""
        return f"pip install {editable}'{origin['url'].removeprefix('file://')}[{','.join(extras)}]'"

    def feature(self, what: str, *extras: str, base: bool = False, modules: tuple[str, ...] = ()) -> Finding:
        """Whether all that a feature needs is installed.

        :param modules: those whose versions are worth showing, besides ONNX Runtime and torch.
        """
        if missing := self.missing(*extras, base=base):
            return Finding(what, "no", f"missing: {', '.join(missing)}", self.install(*extras))
        shown = (*ONNX_RUNTIMES, *modules, *(("torch", "transformers") if "train" in extras else ()))
        versions = [f"{name} {found}" for name in shown if (found := _version(name))]
        return Finding(what, "yes", ", ".join(versions))

    def fast_tokenizer(self) -> Finding:
        """Whether bundles can have their token ids from nanotoken."""
        what = "encode a text in microseconds"
        if found := nanotoken_version():
            return Finding(what, "yes", f"{NANOTOKEN} {found}, in bundles that were checked with this version")
        slower = f"no {NANOTOKEN}: bundles take the same token ids from tokenizers, which is many times slower"
        return Finding(what, "no", slower, self.install("cpu"))

    def tensorrt(self) -> Finding:
        """Whether `export --target tensorrt` finds a TensorRT."""
        versions = [
            f"{name} {found}" for name in ("tensorrt", "tensorrt-rtx-cu13-bindings") if (found := _version(name))
        ]
        what = "make a TensorRT engine (export --target tensorrt)"
        if versions:
            return Finding(what, "yes", ", ".join(versions))
        return Finding(what, "no", "no tensorrt", f"{self.install('gpu')}, or without a GPU {self.install('rtx')}")


def _gpus(installed: _Installation) -> tuple[Finding, Finding]:
    """Whether a bundle can be asked on a GPU, and whether one can be trained on."""
    what = ("ask a bundle on a GPU (serve --device cuda)", "train on a GPU")
    serving = Finding(
        what[0], "no", "this ONNX Runtime has no CUDA", f"on a machine with one: {installed.install('gpu')}"
    )
    if find_spec("onnxruntime"):
        from onnxruntime import get_available_providers

        if "CUDAExecutionProvider" in get_available_providers():
            serving = Finding(
                what[0], "yes", "ONNX Runtime has CUDA; whether it starts, `pocketbert predict --device cuda` shows"
            )
    if not find_spec("torch"):
        return serving, Finding(what[1], "no", "torch is not installed", installed.install("train", "cpu"))
    import torch

    if not torch.cuda.is_available():
        built = f"torch {torch.__version__} sees none; trainings take the CPU"
        cure = "on a machine with one: https://pytorch.org/get-started/locally has the build of torch for its driver"
        return serving, Finding(what[1], "no", built, cure)
    names = []
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        names.append(
            f"{properties.name}, {properties.total_memory / 1e9:.0f} GB, compute capability {properties.major}.{properties.minor}"
        )
    return serving, Finding(what[1], "yes", "; ".join(names))


def _applies(requirement: Requirement, extras: tuple[str, ...], base: bool) -> bool:
    """Whether a requirement is one of the extras, or of the base."""
    if requirement.marker is None:
        return base
    without = requirement.marker.evaluate({"extra": ""})
    return (base and without) or (not without and any(requirement.marker.evaluate({"extra": one}) for one in extras))


def _is_there(requirement: Requirement) -> bool:
    names = ONNX_RUNTIMES if requirement.name in ONNX_RUNTIMES else (requirement.name,)
    versions = filter(None, map(_version, names))
    return any(requirement.specifier.contains(found, prereleases=True) for found in versions)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
