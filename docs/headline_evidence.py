"""The evidence of the headline: what was measured, read from a folder such as docs/sentiment and compared with each other."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.cascade.report import CascadeReport, Row
from bench.cells import OWN_TEXTS, EngineResult
from bench.figures import share_of_gap, speed_up
from bench.report import Report, read_report
from compress.runtime.errors import UserError

INPUT, INPUTS = "128 tokens", ["32 tokens", "128 tokens", OWN_TEXTS]
STUDENT, LINEAR, TEACHER, BASE, BASE_INT8 = "student-int8", "linear", "teacher-torch", "bert-torch", "bert-onnx-int8"
BASE_TITLE = "MPNet-base"  # the documents say so of the large BERT
ENGINES = {  # those of the table in docs/measure.md, with their titles there
    BASE: f"{BASE_TITLE} (12×768), PyTorch fp32",
    "bert-onnx": f"{BASE_TITLE} (12×768), ONNX Runtime fp32",
    BASE_INT8: f"{BASE_TITLE} (12×768), ONNX Runtime INT8",
    TEACHER: "teacher (MiniLM 6×384), PyTorch fp32",
    "student-fp32": "student, ONNX Runtime fp32",
    STUDENT: "student, ONNX Runtime INT8",
    LINEAR: "linear, TF-IDF, scikit-learn",
    "fasttext": "fastText-style, NumPy",
    "static": "static embeddings, NumPy",
    "frozen-onnx": "frozen encoder + LR, ONNX Runtime fp32",
    "frozen-onnx-int8": "frozen encoder + LR, ONNX Runtime INT8",
}
ROUNDED = 0.006  # points by which an accuracy of four digits may be off; one text of test is more
IN_BF16 = 0.3  # points: a training judges its teacher in bf16 where the CPU has it, a benchmark in fp32


@dataclass(frozen=True)
class Evidence:
    """What was measured."""

    report: Report
    cascade: CascadeReport
    manifest: dict[str, Any]  # of the bundle of the default recipe
    genotype: dict[str, Any]
    base_teacher: dict[str, Any]  # the card of the large BERT

    def engine(self, name: str) -> EngineResult:
        """An engine of the report. `read_evidence` has seen that those of the tables are there."""
        return next(engine for engine in self.report.engines if engine.spec.name == name)

    def percent(self, name: str) -> float:
        """The test accuracy of an engine, in %."""
        accuracy = self.engine(name).accuracy
        assert accuracy is not None, "`read_evidence` has looked"
        return accuracy.percent

    def p50(self, name: str, texts: str = INPUT) -> float:
        """The median time of one text, in ms."""
        cell = self.report.cell(self.engine(name), texts, 1)
        ms = cell and cell.summary.total_ms["p50"]
        assert ms, "`read_evidence` has looked"
        return ms

    def faster(self, name: str) -> float:
        """How many times as fast as the large BERT in PyTorch an engine is."""
        found = speed_up(self.report, self.engine(name), INPUT)
        assert found is not None, "`read_evidence` has looked"
        return found.value

    def gap_share(self, name: str) -> float:
        """The share of the gap between linear model and teacher that an engine closes."""
        found = share_of_gap(self.report, self.engine(name))
        assert found is not None, "`read_evidence` has looked"
        return found.value

    @property
    def exported(self) -> Row:
        """The cascade with the threshold that is in its bundle."""
        return next(row for row in self.cascade.rows if row.title.startswith("as exported"))


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
    # The last of these needs what the first two look for.
    problems = [*_wrong_report(evidence.report), *_wrong_cascade(cascade)] or _different_runs(evidence)
    if problems:
        raise UserError(problems[0])
    return evidence


def _wrong_report(report: Report) -> list[str]:
    """Why a report of `pocketbert bench` is not one that the documents describe."""
    wrong = [f"report.json: not valid: {reason}" for reason in (report.partial, report.environment.warning) if reason]
    if (report.threads, report.inputs, report.student) != (1, INPUTS, STUDENT):
        wrong.append(f"report.json: the documents have one thread, the inputs {', '.join(INPUTS)} and {STUDENT}")
    engines = {engine.spec.name: engine for engine in report.engines}
    lacking = [name for name in ENGINES if name not in engines or engines[name].accuracy is None]
    if lacking:
        wrong.append(f"report.json: no accuracy of {', '.join(lacking)}; measure with --bert-base and the cheap rivals")
    elif not engines[BASE].spec.title.startswith(BASE_TITLE):
        wrong.append(f"report.json: the large BERT is not {BASE_TITLE}, as the documents say")
    elif share_of_gap(report, engines[STUDENT]) is None:
        wrong.append("report.json: the teacher is not better than the linear model, so there is no gap to close")
    return wrong


def _wrong_cascade(cascade: CascadeReport) -> list[str]:
    """Why a report of `pocketbert cascade` is not one that the documents describe."""
    wrong = [f"cascade.json: not valid: {reason}" for reason in (cascade.environment.warning,) if reason]
    if (cascade.threads, cascade.student, cascade.teacher) != (1, "int8", "int8"):
        wrong.append("cascade.json: the documents have one thread, and student and teacher in INT8")
    if not any(row.title.startswith("as exported") for row in cascade.rows):
        wrong.append("cascade.json: no threshold of its own; export with --set cascade.within_points=0.5")
    return wrong


def _different_runs(evidence: Evidence) -> list[str]:
    """Where two files of the evidence disagree about what is the same model on the same texts."""
    models, card = evidence.manifest["models"], evidence.manifest["provenance"]
    said = {
        "student-fp32": models["fp32"]["test_accuracy"],
        STUDENT: models["int8"]["test_accuracy"],
        TEACHER: card["teacher"]["accuracy"]["test"],
        LINEAR: card["linear"]["accuracy"]["test"],
        BASE: evidence.base_teacher["accuracy"]["test"],
    }
    disagree = [
        f"report.json has {evidence.percent(name):.2f} % for {name}, "
        f"{'base_teacher.json' if name == BASE else 'manifest.json'} {100 * share:.2f} %"
        for name, share in said.items()
        if abs(evidence.percent(name) - 100 * share) > (IN_BF16 if name in (TEACHER, BASE) else ROUNDED)
    ]
    own = 100 * evidence.cascade.rows[0].accuracy
    if abs(own - evidence.percent(STUDENT)) > ROUNDED:
        disagree.append(f"report.json has {evidence.percent(STUDENT):.2f} % for {STUDENT}, cascade.json {own:.2f} %")
    return [f"{one}: they are of different runs; measure again what is older" for one in disagree]
