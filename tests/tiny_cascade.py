"""A small bundle with a cascade, made by hand: the teacher says the opposite of the student, so a label tells who answered."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from export.bundle import MANIFEST, Bundle, file_entry
from export.manifest import Calibration, Cascade, CurvePoint, ModelEntry, Route

STUDENT, TEACHER = "model.fp32.onnx", "teacher.int8.onnx"


def add_cascade(bundle: Path, *, threshold: float = 0.9, temperature: float = 1.0) -> Path:
    """Add a teacher to a bundle of `tests.conftest.make_tiny_bundle`: the same model with negated logits.

    :param threshold: scores up to this are unsure.
    :param temperature: of the student's scores.
    """
    (bundle / TEACHER).write_bytes(student_times(bundle, -1.0))
    manifest = Bundle(bundle).manifest
    student = manifest.models["fp32"]
    scores = Calibration(temperature=temperature, ece_before={"dev": 0.1}, ece_after={"dev": 0.02})
    curve = [
        CurvePoint(share=x, threshold=t, accuracy=0.8 + x / 10, ms=1 + 9 * x)
        for x, t in ((0, 0), (0.4, threshold), (1, 1))
    ]
    cascade = Cascade(
        precision="int8",
        teacher=ModelEntry(**student.model_dump(exclude={"file"}), file=TEACHER),
        tokenizer="tokenizer.json",
        pad_token_id=manifest.pad_token_id,
        routes={"fp32": Route(chosen=curve[1], curve=curve, student_ms=1, teacher_ms=9)},
    )
    changed = manifest.model_copy(
        update={
            "models": {"fp32": student.model_copy(update={"calibration": scores})},
            "files": {**manifest.files, TEACHER: file_entry(bundle / TEACHER)},
            "cascade": cascade,
        }
    )
    (bundle / MANIFEST).write_text(changed.model_dump_json(), encoding="utf-8")
    return bundle


def student_times(bundle: Path, factor: float) -> bytes:
    """The ONNX file of a bundle's student with its logits multiplied by a number."""
    model = onnx.load(bundle / STUDENT)
    projection = next(one for one in model.graph.initializer if one.name == "projection")
    values = numpy_helper.to_array(projection) * np.float32(factor)
    projection.CopyFrom(numpy_helper.from_array(values, "projection"))
    return model.SerializeToString()


def replace_teacher(bundle: Path, content: bytes) -> None:
    """Write another file in the teacher's place, with its hash in the manifest."""
    (bundle / TEACHER).write_bytes(content)
    manifest = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    manifest["files"][TEACHER] = file_entry(bundle / TEACHER).model_dump()
    (bundle / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
