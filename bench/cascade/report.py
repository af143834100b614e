"""The report of a measured cascade: all figures as JSON, a table of them as Markdown."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from bench.environment import Environment
from bench.tables.latency import describe_machine
from bench.text import MISSING, markdown_table, significant
from compress.data.files import write_json
from compress.runtime.files import write_text
from export.accuracy import standard_error
from export.manifest import Route

HEADER = ["Passed on", "Scores up to", "Share", "Accuracy, %", "ECE", "Mean, ms", "Faster"]


class Row(BaseModel):
    """One way to answer. Shares and accuracies are fractions of 1."""

    title: str
    threshold: float | None  # None: the teacher alone
    share: float  # of the texts of the split that go to the teacher
    accuracy: float
    ece: float  # expected calibration error of the scores of all answers
    mean_ms: float  # of a text at batch 1, from the text to the answer


class CascadeReport(BaseModel):
    """`cascade.json`."""

    format: int = 1
    name: str
    created: str  # ISO 8601, UTC
    command: str
    split: str
    texts: int  # of the split
    timed_texts: int
    threads: int
    student: str  # precision
    teacher: str  # precision
    environment: Environment
    rows: list[Row]  # the student alone, thresholds in order, the teacher alone
    dev: Route  # what the bundle says

    @property
    def machine(self) -> str:
        """Machine, threads and date in one line."""
        return f"{describe_machine(self.environment, self.threads)} · {self.created[:10]}"


def table(report: CascadeReport) -> tuple[list[str], list[list[str]]]:
    """The header and the rows."""
    teacher_ms = report.rows[-1].mean_ms
    return HEADER, [
        [
            row.title,
            MISSING if row.threshold is None else f"{row.threshold:.4f}",
            f"{row.share:.1%}",
            f"{100 * row.accuracy:.2f}",
            f"{row.ece:.3f}",
            significant(row.mean_ms),
            f"{significant(teacher_ms / row.mean_ms)}×",
        ]
        for row in report.rows
    ]


def write_report(report: CascadeReport, directory: Path) -> None:
    """Write `cascade.json` and `cascade.md`."""
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / "cascade.json", report.model_dump(mode="json"))
    error = 100 * standard_error(report.rows[-1].accuracy, report.texts)
    parts = [
        f"# {report.name}: student and teacher as a cascade",
        f"> **Not valid.** {report.environment.warning}" if report.environment.warning else "",
        markdown_table(*table(report)),
        "A text goes to the teacher if the student's score, a calibrated probability, is at most the threshold; thresholds are named "
        f"by the share of dev that they pass on. Share, accuracy and ECE (expected calibration error of the answers' scores): of the "
        f"{report.texts:,} texts of {report.split}, standard error of an accuracy about {error:.1f} points. Mean: of "
        f"{report.timed_texts:,} of these texts, spread evenly over the scores, one at a time, tokenisation included; all rows took "
        "turns text by text, each after a call that does not count. Faster: than the teacher alone. "
        f"Student in {report.student}, teacher in {report.teacher}. {report.machine}.",
        "![accuracy and mean latency against the share passed on](cascade.svg)",
        f"`{report.command}`",
    ]
    write_text(directory / "cascade.md", "\n\n".join(part for part in parts if part) + "\n")
