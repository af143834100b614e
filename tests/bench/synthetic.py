"""Reports with known figures, so that what is made of them can be computed by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.cells import Accuracy, Cell, EngineResult
from bench.engines import BundleEngine, NgramEngine, TorchEngine
from bench.environment import Environment
from bench.report import Report

KINDS = {"bert-torch": TorchEngine, "teacher-torch": TorchEngine, "linear": NgramEngine, "student-int8": BundleEngine}
FAMILIES = {"bert": "bert", "teacher": "teacher", "linear": "rival", "student": "student"}


def answers(right: int, total: int = 1000) -> np.ndarray:
    """The first `right` texts are answered correctly: the more accurate model is right wherever the other one is."""
    return np.arange(total) < right


def engine(name: str, ms: float, right: np.ndarray | None, *, seed: int = 0, noise: float = 0.01) -> EngineResult:
    """An engine with that median time at batch 1, a tenth of it for a text in a batch of ten, in ten rounds of ten samples."""
    rng = np.random.default_rng([seed, *name.encode()])
    cells = []
    for size in (1, 10):
        samples = ms * rng.lognormal(0, noise, 100)
        cells.append(
            Cell(
                input="128 tokens",
                length=128,
                batch_size=size,
                texts=100 * size,
                mean_tokens=128,
                warm_up=3,
                rounds=[10] * 10,
                tokenise_ms=[0.0] * 100,
                model_ms=samples.tolist(),
            )
        )
    accuracy = None
    if right is not None:
        marks = "".join("01"[int(one)] for one in right)
        accuracy = Accuracy(correct=int(right.sum()), total=len(right), right=marks)
    spec = KINDS[name](
        name=name,
        title=name,
        family=FAMILIES[name.split("-")[0]],
        path=Path("model"),
        precision="int8" if name == "student-int8" else "fp32",
        tokenizer=Path("tokenizer.json"),
        pad_token_id=0,
        max_length=128,
        scored=right is not None,
    )
    return EngineResult(
        spec=spec, parameters=10, file_bytes=5_000_000, load_s=1, peak_memory_bytes=None, accuracy=accuracy, cells=cells
    )


def report(*engines: EngineResult, cpu: str = "a CPU", texts: str = "the texts") -> Report:
    """A report of these engines, which took turns."""
    environment = Environment(
        cpu=cpu,
        simd=[],
        logical_cpus=1,
        memory_bytes=None,
        gpu=None,
        system="",
        python="3",
        packages={},
        pocketbert="1",
        commit=None,
        busy_share=0.0,
    )
    return Report(
        name="task",
        created="2026-11-29T00:00:00+00:00",
        command="",
        device="cpu",
        threads=1,
        cpus=None,
        batch_size=10,
        seconds=1,
        own_texts=0,
        split="test",
        environment=environment,
        texts=texts,
        student="student-int8",
        interleaved=True,
        engines=list(engines),
    )


def four(*, student_ms: float = 0.5, student_right: int = 840, **options: int) -> list[EngineResult]:
    """BERT at 100 ms; a teacher with 88 %, a linear model with 80 %, and the student."""
    return [
        engine("bert-torch", 100, None, **options),
        engine("teacher-torch", 20, answers(880), **options),
        engine("student-int8", student_ms, answers(student_right), **options),
        engine("linear", 0.7, answers(800), **options),
    ]
