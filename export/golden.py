"""Golden examples: a few texts with the logits that each model of a bundle gave for them at export. No torch.

They show on any machine, without the task's data, whether the bundle still answers as it did: `verify` asks, and a server can
before it swaps one bundle for another.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from compress.runtime.errors import UserError
from export.manifest import ENGINE_GRAPH

if TYPE_CHECKING:
    from export.session import BundleSession, ModelSession

GOLDEN = "golden.json"
TEACHER_TEXTS = 8  # golden examples that the teacher answers: a BERT-base takes a tenth of a second for one
DIGITS = 6  # of a golden logit, after the point
# How far a logit may be off, as a share of the largest logit. The kernels of two CPUs round differently. In INT8 a value near
# the middle between two steps may go to either, and the layers behind it carry that on.
FLOAT_TOLERANCE, INT8_TOLERANCE = 0.01, 0.05


class TeacherExamples(BaseModel):
    """What the teacher of a cascade gave for the first of the texts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input_ids: list[list[int]]  # its tokenizer may be another one
    logits: list[list[float]]  # (N, C), of a batch of one text each


class GoldenExamples(BaseModel):
    """The content of `golden.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    labels: list[str]  # in the order of the logits
    texts: list[str]
    texts_b: list[str] | None  # the second texts of pairs
    input_ids: list[list[int]]  # the tokens of each text or pair
    logits: dict[str, list[list[float]]]  # by precision: (N, C), of a batch of one text each
    teacher: TeacherExamples | None = None  # None: there is no cascade, or the bundle is older than this field


def read_golden(path: Path) -> GoldenExamples:
    """Read the examples of a bundle.

    :raises UserError: the file holds none.
    """
    try:
        return GoldenExamples.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: holds no golden examples ({reason}); export the bundle again") from None


def teacher_examples(teacher: ModelSession, golden: GoldenExamples) -> TeacherExamples:
    """What the teacher answers to the first `TEACHER_TEXTS` examples."""
    texts_b = golden.texts_b and golden.texts_b[:TEACHER_TEXTS]
    encoded = teacher.encoder.encode(golden.texts[:TEACHER_TEXTS], texts_b)
    logits = teacher.logits(encoded, batch_size=1).tolist()
    return TeacherExamples(
        input_ids=[one.input_ids.tolist() for one in encoded],
        logits=[[round(value, DIGITS) for value in row] for row in logits],
    )


def check_golden(session: BundleSession, golden: GoldenExamples) -> float:
    """Compare the answers of a loaded bundle with those at export; of an engine, which was not run there, with those of its graph.

    :returns: the largest difference of a logit.
    :raises UserError: a logit is off by more than the tolerance of its precision, or the tokenizer gives other tokens than at export.
    """
    place = f"{session.manifest.name}, precision {session.precision}"
    precision = session.precision if session.precision in golden.logits else ENGINE_GRAPH
    if precision not in golden.logits:
        raise UserError(f"{place}: {GOLDEN} has no logits of this precision; export the bundle again")
    return _compare(session, golden, golden.input_ids, golden.logits[precision], precision, place)


def check_teacher(teacher: ModelSession, golden: GoldenExamples, precision: str, name: str) -> float | None:
    """Compare the answers of a cascade's teacher with those at export.

    :param name: of the bundle.
    :returns: the largest difference of a logit; None: the bundle has no answers of the teacher.
    :raises UserError: as `check_golden`.
    """
    if golden.teacher is None:
        return None
    expected = golden.teacher
    return _compare(teacher, golden, expected.input_ids, expected.logits, precision, f"{name}, teacher in {precision}")


def _compare(
    session: ModelSession,
    golden: GoldenExamples,
    input_ids: list[list[int]],
    logits: list[list[float]],
    precision: str,
    place: str,
) -> float:
    """Run the first texts, each in a batch of its own: so padding and dynamic ranges play no part.

    :param input_ids: those at export, one for each text to run.
    """
    encoded = session.encoder.encode(
        golden.texts[: len(input_ids)], golden.texts_b and golden.texts_b[: len(input_ids)]
    )
    for number, (one, ids) in enumerate(zip(encoded, input_ids, strict=True), 1):
        if one.input_ids.tolist() != ids:
            raise UserError(
                f"{place}: the tokenizer gives other tokens for golden example {number} than at export; "
                "install the version of tokenizers that `pocketbert inspect` shows, or export the bundle again"
            )
    expected, found = np.asarray(logits, np.float32), session.logits(encoded, batch_size=1)
    if found.shape != expected.shape:
        raise UserError(
            f"{place}: the model gives logits of shape {found.shape} for the golden examples, at export it gave "
            f"{expected.shape}; export or copy the bundle again"
        )
    allowed = FLOAT_TOLERANCE if precision == "fp32" else INT8_TOLERANCE
    allowed *= max(1.0, float(np.abs(expected).max()))
    difference = float(np.abs(found - expected).max())
    if not difference <= allowed:
        raise UserError(
            f"{place}: a logit of the golden examples is {difference:.2g} away from that at export, and {allowed:.2g} is allowed: "
            "another model, or a runtime that computes otherwise; export the bundle again on this machine"
        )
    return difference
