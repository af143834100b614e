"""The evidence of the headline: what was measured, read from a folder such as docs/sentiment and compared with each other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bench.cascade.report import CascadeReport, Row
from bench.cells import OWN_TEXTS, EngineResult
from bench.figures import share_of_gap, speed_up
from bench.report import Report, read_report
from compress.runtime.errors import UserError

INPUT, INPUTS = "128 tokens", ["32 tokens", "128 tokens", OWN_TEXTS]
STUDENT, LINEAR, TEACHER, BASE, BASE_INT8 = "student-int8", "linear", "teacher-torch", "bert-torch", "bert-onnx-int8"
TUTORED = "beside-1"  # the student whose teacher had a tutor
BASE_TITLE = "MPNet-base"  # the documents say so of the large BERT
ENGINES = {  # those of the table in docs/measure.md, with their titles there
    BASE: f"{BASE_TITLE} (12×768), PyTorch fp32",
    "bert-onnx": f"{BASE_TITLE} (12×768), ONNX Runtime fp32",
    BASE_INT8: f"{BASE_TITLE} (12×768), ONNX Runtime INT8",
    TEACHER: "teacher (MiniLM 6×384), PyTorch fp32",
    "student-fp32": "student, ONNX Runtime fp32",
    STUDENT: "student, ONNX Runtime INT8",
    TUTORED: "student whose teacher had a tutor, ONNX Runtime INT8",
    LINEAR: "linear, TF-IDF, scikit-learn",
    "fasttext": "fastText-style, NumPy",
    "static": "static embeddings, NumPy",
    "frozen-onnx": "frozen encoder + LR, ONNX Runtime fp32",
    "frozen-onnx-int8": "frozen encoder + LR, ONNX Runtime INT8",
}
ROUNDED = 0.006  # points by which an accuracy of four digits may be off; one text of test is more
EXPORTED = "as exported"  # how the title of the cascade in the bundle begins
IN_BF16 = 0.3  # points: a training judges its teacher in bf16 where the CPU has it, a benchmark in fp32
Found = TypeVar("Found")


@dataclass(frozen=True)
class Evidence:
    """What was measured. Of what `read_evidence` has read, all that is asked for here is there."""

    report: Report
    cascade: CascadeReport
    manifest: dict[str, Any]  # of the bundle of the default recipe
    genotype: dict[str, Any]
    base_teacher: dict[str, Any]  # the card of the large BERT

    def engine(self, name: str) -> EngineResult:
        """An engine of the report."""
        return known(self.report.engine(name))

    def percent(self, name: str) -> float:
        """The test accuracy of an engine, in %."""
        return known(self.engine(name).accuracy).percent

    def p50(self, name: str, texts: str = INPUT) -> float:
        """The median time of one text, in ms."""
        return known(known(self.report.cell(self.engine(name), texts, 1)).summary.total_ms["p50"])

    def faster(self, name: str) -> float:
        """How many times as fast as the large BERT in PyTorch an engine is."""
        return known(speed_up(self.report, self.engine(name), INPUT)).value

    def gap_share(self, name: str) -> float:
        """The share of the gap between linear model and teacher that an engine closes."""
        return known(share_of_gap(self.report, self.engine(name))).value

    @property
    def exported(self) -> Row:
        """The cascade with the threshold that is in its bundle."""
        return next(row for row in self.cascade.rows if row.title.startswith(EXPORTED))


def known(found: Found | None) -> Found:
    """What `read_evidence` has looked for."""
    assert found is not None, "`read_evidence` has looked"
    return found


def read_evidence(folder: Path) -> Evidence:
    """The evidence in a folder.

    :raises UserError: a file cannot be read, or is not what the documents say of it, or two are of different runs.
    """
    try:
        manifest, genotype, base_teacher = (
            json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
            for name in ("manifest", "genotype", "base_teacher")
        )
        cascade = CascadeReport.model_validate_json((folder / "cascade.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder.name}: evidence cannot be read ({' '.join(str(error).split())[:120]})") from None
    evidence = Evidence(read_report(folder), cascade, manifest, genotype, base_teacher)
    if wrong := next(problems(evidence), None):
        raise UserError(wrong)
    return evidence


def problems(evidence: Evidence) -> Iterator[str]:
    """Why the documents do not describe this evidence. Each step needs what those before it have looked for."""
    report, cascade = evidence.report, evidence.cascade
    for file, reason in (
        ("report.json", report.partial),
        ("report.json", report.environment.warning),
        ("cascade.json", cascade.environment.warning),
    ):
        if reason:
            yield f"{file}: not valid: {reason}"
    if (report.threads, report.inputs, report.student) != (1, INPUTS, STUDENT):
        yield f"report.json: the documents have one thread, the inputs {', '.join(INPUTS)} and {STUDENT}"
    engines = {name: report.engine(name) for name in ENGINES}
    if lacking := [name for name, engine in engines.items() if engine is None or engine.accuracy is None]:
        yield f"report.json: no accuracy of {', '.join(lacking)}; measure with --bert-base, --beside and the cheap rivals"
    if not evidence.engine(BASE).spec.title.startswith(BASE_TITLE):
        yield f"report.json: the large BERT is not {BASE_TITLE}, as the documents say"
    if "tutor" not in evidence.engine(TUTORED).spec.title:
        yield "report.json: the bundle of --beside is not of a recipe with a tutor, such as artifacts/sentiment-tutor"
    if share_of_gap(report, evidence.engine(STUDENT)) is None:
        yield "report.json: the teacher is not better than the linear model, so there is no gap to close"
    if (cascade.threads, cascade.student, cascade.teacher) != (1, "int8", "int8"):
        yield "cascade.json: the documents have one thread, and student and teacher in INT8"
    if not any(row.title.startswith(EXPORTED) for row in cascade.rows):
        yield "cascade.json: no threshold of its own; export with --set cascade.within_points=0.5"
    yield from different_runs(evidence)


def different_runs(evidence: Evidence) -> Iterator[str]:
    """Where two files disagree about what is the same model on the same texts."""
    models, card = evidence.manifest["models"], evidence.manifest["provenance"]
    for name, file, accuracy, tolerance in (
        ("student-fp32", "manifest.json", models["fp32"]["test_accuracy"], ROUNDED),
        (STUDENT, "manifest.json", models["int8"]["test_accuracy"], ROUNDED),
        (TEACHER, "manifest.json", card["teacher"]["accuracy"]["test"], IN_BF16),
        (LINEAR, "manifest.json", card["linear"]["accuracy"]["test"], ROUNDED),
        (BASE, "base_teacher.json", evidence.base_teacher["accuracy"]["test"], IN_BF16),
        (STUDENT, "cascade.json", evidence.cascade.rows[0].accuracy, ROUNDED),
    ):
        if abs(evidence.percent(name) - 100 * accuracy) > tolerance:
            yield (
                f"report.json has {evidence.percent(name):.2f} % for {name}, {file} {100 * accuracy:.2f} %: they are of "
                "different runs; measure again what is older"
            )
