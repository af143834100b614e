"""The cascade: the teacher goes into the bundle too, and answers the texts of which the student is unsure.

A student is unsure of a text if the score of its answer, a calibrated probability, is at most a threshold. The threshold is
chosen on dev, for the accuracy or the share of texts that the recipe asks for.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from compress.console import console
from compress.data.corpus import Corpus
from compress.data.files import sha256_file
from compress.recipe import Recipe
from compress.recipe.sections import CascadeOptions
from compress.runtime.encode import TextEncoder
from export.accuracy import standard_error
from export.bundle import TOKENIZER
from export.calibration import calibrate
from export.gate import Gate
from export.int8 import export_int8
from export.manifest import Cascade, CurvePoint, ModelEntry, Route
from export.measure import mean_latency
from export.onnx import export_onnx
from export.quantize import FLOAT_EMBEDDINGS
from export.record import measured
from export.session import FloatArray, OnnxModel, softmax

TEXTS = 3000  # of dev, and of test, that the teacher reads at most; a BERT-base answers some ten a second on a core
TEACHER_TOKENIZER = "teacher.tokenizer.json"
STEPS = 100  # of the share in the curve that is stored


@dataclass(frozen=True)
class StudentModel:
    """What the choice of a threshold needs to know of a student in one precision."""

    dev_logits: FloatArray  # (N, C), of all dev texts
    temperature: float
    mean_ms: float  # of a text


def make_cascade(
    recipe: Recipe, corpus: Corpus, teacher: Path, students: dict[str, StudentModel], directory: Path, scratch: Path
) -> Cascade:
    """Write the teacher into a bundle, and choose the threshold of each student.

    :param teacher: the directory of the finished teacher.
    :param students: those of the bundle, by precision.
    :param directory: of the bundle.
    :param scratch: for intermediate files.
    :raises UserError: the teacher's ONNX graph differs too much from PyTorch.
    """
    rows = {name: _rows(len(split), recipe.seed) for name, split in corpus.splits.items() if name != "train"}
    drawn = {name: corpus.splits[name].take(own) for name, own in rows.items()}
    sample = replace(corpus, splits={**corpus.splits, **drawn})
    config = json.loads((teacher / "config.json").read_text(encoding="utf-8"))
    pad_token_id = config.get("pad_token_id") or 0
    encoder = TextEncoder(teacher / TOKENIZER, recipe.target.max_length)
    entry, precision, on_dev = _export_teacher(recipe, sample, teacher, encoder, pad_token_id, directory, scratch)
    labels = np.asarray(sample.splits["dev"].labels)
    teacher_ms = mean_latency(directory / entry.file, recipe, corpus, encoder, pad_token_id)
    routes = {}
    for name, student in students.items():
        probabilities = softmax(student.dev_logits[rows["dev"]] / np.float32(student.temperature))
        points = dev_curve(
            probabilities.max(axis=1),
            probabilities.argmax(axis=1) == labels,
            on_dev.argmax(axis=1) == labels,
            student_ms=student.mean_ms,
            teacher_ms=teacher_ms,
        )
        chosen = choose(points, recipe.cascade)
        routes[name] = Route(
            chosen=chosen, curve=thinned(points), student_ms=round(student.mean_ms, 4), teacher_ms=round(teacher_ms, 4)
        )
        if unmet := unmet_accuracy(points, chosen, recipe.cascade):
            console.print(f"  [bold yellow]{unmet}[/]")
    return Cascade(
        precision=precision,
        teacher=entry,
        tokenizer=_add_tokenizer(teacher, directory),
        pad_token_id=pad_token_id,
        routes=routes,
    )


def dev_curve(
    scores: FloatArray,
    student_right: NDArray[np.bool_],
    teacher_right: NDArray[np.bool_],
    *,
    student_ms: float,
    teacher_ms: float,
) -> list[CurvePoint]:
    """What the cascade does for each number of texts that a threshold can pass on, from none to all.

    :param scores: the probability (N,) of the student's answer to each text. Texts with equal scores go together.
    :param student_right: whether its answers are right (N,).
    :param teacher_right: whether those of the teacher are (N,).
    :param student_ms: mean time of a text.
    """
    total, order = len(scores), np.argsort(scores, kind="stable")
    scores = scores[order].astype(np.float64)
    right = np.concatenate([[0], np.cumsum(teacher_right[order])])
    right += np.concatenate([np.cumsum(student_right[order][::-1])[::-1], [0]])
    # Between two scores, so that a last digit that differs between two machines changes nothing.
    thresholds = np.concatenate([[0.0], (scores[1:] + scores[:-1]) / 2, [1.0]])
    possible = np.concatenate([[True], scores[1:] > scores[:-1], [True]])
    return [
        CurvePoint(
            share=passed / total,
            threshold=float(thresholds[passed]),
            accuracy=float(right[passed] / total),
            ms=round(student_ms + passed / total * teacher_ms, 4),
        )
        for passed in range(total + 1)
        if possible[passed]
    ]


def choose(points: Sequence[CurvePoint], options: CascadeOptions) -> CurvePoint:
    """The point of a curve that a recipe asks for.

    With `within_points` it is the smallest share that is accurate enough, and from which on every larger share is: one lucky text
    decides nothing then. With `max_share` no larger share is taken. With `max_share` alone it is that share.

    :param points: as `dev_curve` gives them.
    """
    allowed = [point for point in points if options.max_share is None or point.share <= options.max_share]
    if options.within_points is None:
        return allowed[-1]
    return min(_smallest_accurate(points, options.within_points), allowed[-1], key=lambda point: point.share)


def unmet_accuracy(points: Sequence[CurvePoint], chosen: CurvePoint, options: CascadeOptions) -> str | None:
    """A line that says so if `max_share` leaves the cascade less accurate than `within_points` asks."""
    if (
        options.within_points is None
        or chosen.share >= (needed := _smallest_accurate(points, options.within_points)).share
    ):
        return None
    missing = 100 * (points[-1].accuracy - chosen.accuracy)
    return (
        f"cascade: within {options.within_points:g} points of the teacher takes {needed.share:.0%} of the texts; with cascade.max_share "
        f"= {options.max_share:g}, {missing:.2f} points are missing on dev"
    )


def thinned(points: Sequence[CurvePoint]) -> list[CurvePoint]:
    """The first point at or after each hundredth of the texts."""
    kept = {int(point.share * STEPS + 1e-9): point for point in reversed(points)}
    return list(reversed(kept.values()))


def _smallest_accurate(points: Sequence[CurvePoint], within_points: float) -> CurvePoint:
    enough = points[-1].accuracy - within_points / 100 - 1e-9
    last_short = max((n for n, point in enumerate(points) if point.accuracy < enough), default=-1)
    return points[last_short + 1]


def _export_teacher(
    recipe: Recipe,
    corpus: Corpus,
    teacher: Path,
    encoder: TextEncoder,
    pad_token_id: int,
    directory: Path,
    scratch: Path,
) -> tuple[ModelEntry, Literal["int8", "fp32"], FloatArray]:
    """Write the teacher in INT8 if the recipe has this precision and it passes the gate, else in fp32.

    :returns: its entry, its precision and its logits (N, C) on dev.
    """
    fp32, int8 = scratch / "teacher.fp32.onnx", scratch / "teacher.int8.onnx"
    max_length = recipe.target.max_length
    difference = export_onnx(teacher, fp32, pair=corpus.pair, max_length=max_length)
    threads = torch.get_num_threads()
    dev_only = replace(corpus, splits={name: corpus.splits[name] for name in ("train", "dev")})
    gate = Gate(dev_only, encoder, pad_token_id, recipe.export, threads=threads)
    file, result, note = fp32, gate.evaluate(fp32), f"fp32, logits within {difference:.1e} of PyTorch's"
    if "int8" in recipe.export.precisions:
        export_int8(teacher, int8, FLOAT_EMBEDDINGS, pair=corpus.pair, max_length=max_length)
        rounded = gate.evaluate(int8)
        console.print(f"  teacher in int8: {int8.stat().st_size / 1e6:.1f} MB, {rounded}")
        if rounded.passed:
            file, result, note = int8, rounded, FLOAT_EMBEDDINGS.note
        else:
            note = f"{note}; int8 ({FLOAT_EMBEDDINGS.note}) failed the gate: {rounded.verdict}"
            console.print(
                "  [bold yellow]the teacher's int8 fails the gate, so the cascade has it in fp32[/]: "
                f"{fp32.stat().st_size / 1e6:.1f} MB"
            )
    logits, known = dict(result.logits), measured(result)
    if test := corpus.splits.get("test"):
        model = OnnxModel(file, threads=threads)
        logits["test"] = model.logits_in_batches(encoder.encode(test.texts, test.texts_b), pad_token_id)
        right = float((logits["test"].argmax(axis=1) == test.labels).mean())
        known |= {"test_accuracy": round(right, 6), "test_error": round(standard_error(right, len(test)), 6)}
    labels = {name: np.asarray(corpus.splits[name].labels) for name in logits}
    shutil.copyfile(file, directory / file.name)
    scores = calibrate(logits, labels)
    entry = ModelEntry(file=file.name, runtime="onnxruntime", note=note, calibration=scores, **known)
    return entry, "int8" if file is int8 else "fp32", logits["dev"]


def _add_tokenizer(teacher: Path, directory: Path) -> str:
    """The name of the teacher's tokenizer in the bundle; copied there if it is not the student's."""
    if sha256_file(teacher / TOKENIZER) == sha256_file(directory / TOKENIZER):
        return TOKENIZER
    shutil.copyfile(teacher / TOKENIZER, directory / TEACHER_TOKENIZER)
    return TEACHER_TOKENIZER


def _rows(total: int, seed: int) -> list[int]:
    """All rows, or `TEXTS` of them drawn at random, in order."""
    return sorted(random.Random(seed).sample(range(total), min(total, TEXTS)))
