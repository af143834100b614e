"""Which engines there are for a recipe, which of them are asked for, and where their files are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.baseline import Baseline, BaselineOptions
from bench.engines import EngineSpec
from compress.runtime.errors import UserError
from export.bundle import TOKENIZER, Bundle, Manifest

REFERENCE = "bert-torch"  # the engine that speed-ups are against
# Suffix of the name → (precision, torch.compile)
TORCH_CPU = {"": ("fp32", False)}
TORCH_CUDA = {**TORCH_CPU, "-bf16": ("bf16", False), "-bf16-compiled": ("bf16", True)}


@dataclass(frozen=True)
class Roster:
    """The engines of one task.

    :param teacher: directory of the teacher, `artifacts/NAME/teacher`.
    :param bundle: the bundle, `artifacts/NAME/bundle`.
    :param labels: label names of the task, in the order of the logits.
    :param max_length: tokens that the teacher and the BERT baseline keep of a text.
    """

    teacher: Path
    bundle: Path
    labels: list[str]
    max_length: int
    device: str
    baseline_options: BaselineOptions

    def names(self) -> list[str]:
        """All engines, slowest family first.

        :raises UserError: no bundle.
        """
        variants = TORCH_CPU if self.device == "cpu" else TORCH_CUDA
        # ONNX Runtime has no MatMulInteger on CUDA: it would run on the CPU in silence.
        bert_onnx = ["bert-onnx", "bert-onnx-int8"] if self.device == "cpu" else ["bert-onnx"]
        students = [
            f"student-{precision}"
            for precision, entry in self._manifest.models.items()
            if entry.runtime == "onnxruntime" or self.device == "cuda"
        ]
        return [f"bert-torch{v}" for v in variants] + bert_onnx + [f"teacher-torch{v}" for v in variants] + students

    def spec(self, name: str) -> EngineSpec:
        """Where the engine's files are; makes those of the BERT baseline if they are not cached yet.

        :raises UserError: a file is missing, or a model's labels are not the task's.
        """
        family, _, rest = name.partition("-")
        if family == "student":
            return self._student(rest)
        return self._teacher(rest.removeprefix("torch")) if family == "teacher" else self._bert(rest)

    def _bert(self, rest: str) -> EngineSpec:
        baseline = self._baseline
        is_onnx = rest.startswith("onnx")
        if is_onnx:
            precision, compiled = ("int8", False) if rest == "onnx-int8" else ("fp32", False)
            path = baseline.int8() if precision == "int8" else baseline.onnx()
        else:
            precision, compiled = TORCH_CUDA[rest.removeprefix("torch")]
            path = baseline.checkpoint()
        return EngineSpec(
            name=f"bert-{rest}",
            title=f"{baseline.title} · {'ONNX Runtime' if is_onnx else 'PyTorch'} {_precision(precision, compiled)}",
            family="bert",
            runtime="onnx" if is_onnx else "torch",
            path=path.absolute(),
            precision=precision,
            compiled=compiled,
            tokenizer=self._teacher_tokenizer.absolute(),
            pad_token_id=self._pad_token_id,
            max_length=min(self.max_length, baseline.max_length),
            scored=False,
            note=baseline.note,
        )

    def _teacher(self, variant: str) -> EngineSpec:
        config = self._teacher_config
        if config is None:
            raise UserError(
                f"{self.teacher}: no teacher there; make one with `make compress-and-export`, "
                "or leave it out with --skip 'teacher-*'"
            )
        labels = list(config.get("id2label", {"0": "", "1": ""}).values())
        if len(labels) != len(self.labels) or (set(labels) == set(self.labels) and labels != self.labels):
            raise UserError(
                f"{self.teacher}: its labels are {labels}, the data's {self.labels}; train it on this recipe's data"
            )
        precision, compiled = TORCH_CUDA[variant]
        known = "num_hidden_layers" in config and "hidden_size" in config
        size = f" {config['num_hidden_layers']}×{config['hidden_size']}" if known else ""
        return EngineSpec(
            name=f"teacher-torch{variant}",
            title=f"Teacher{size} · PyTorch {_precision(precision, compiled)}",
            family="teacher",
            runtime="torch",
            path=self.teacher.absolute(),
            precision=precision,
            compiled=compiled,
            tokenizer=self._teacher_tokenizer.absolute(),
            pad_token_id=self._pad_token_id,
            max_length=self.max_length,
            scored=True,
        )

    def _student(self, precision: str) -> EngineSpec:
        manifest = self._manifest
        entry = manifest.models[precision]
        if manifest.labels != self.labels:
            raise UserError(
                f"{self.bundle}: its labels are {manifest.labels}, the data's {self.labels}: another task's bundle"
            )
        runtime = "ONNX Runtime" if entry.runtime == "onnxruntime" else "TensorRT"
        return EngineSpec(
            name=f"student-{precision}",
            title=f"Student · {runtime} {_precision(precision, False)}",
            family="student",
            runtime="bundle",
            path=self.bundle.absolute(),
            precision=precision,
            tokenizer=(self.bundle / TOKENIZER).absolute(),
            pad_token_id=manifest.pad_token_id,
            max_length=manifest.max_length,
            scored=True,
            note="lost more accuracy than the recipe's budget" if entry.passed is False else "",
        )

    @cached_property
    def _manifest(self) -> Manifest:
        return Bundle(self.bundle).manifest

    @cached_property
    def _baseline(self) -> Baseline:
        return Baseline(self.baseline_options, self._teacher_tokenizer, len(self.labels))

    @cached_property
    def _teacher_config(self) -> dict[str, Any] | None:
        """config.json of the teacher; None if there is no teacher."""
        path = self.teacher / "config.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    @property
    def _teacher_tokenizer(self) -> Path:
        """The teacher's tokenizer, or without a teacher the bundle's, which is a copy of it."""
        return (self.bundle if self._teacher_config is None else self.teacher) / TOKENIZER

    @property
    def _pad_token_id(self) -> int:
        if self._teacher_config is None:
            return self._manifest.pad_token_id
        return int(self._teacher_config.get("pad_token_id") or 0)


def select(names: list[str], only: list[str], skip: list[str]) -> list[str]:
    """The engines that match a pattern of `only` (all if it is empty) and none of `skip`; patterns may hold `*`.

    :raises UserError: a pattern matches no engine, or nothing is left.
    """
    for flag, patterns in (("--only", only), ("--skip", skip)):
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise UserError(f"{flag} {pattern}: no such engine; there are {', '.join(names)}")
    chosen = [name for name in names if not only or any(fnmatchcase(name, pattern) for pattern in only)]
    chosen = [name for name in chosen if not any(fnmatchcase(name, pattern) for pattern in skip)]
    if not chosen:
        raise UserError(f"--skip: leaves no engine to measure; there are {', '.join(names)}")
    return chosen


def _precision(precision: str, compiled: bool) -> str:
    name = precision.upper() if precision.startswith("int") else precision
    return f"{name} compiled" if compiled else name
