"""The results of a front: the students with their figures, the teacher and the linear model; as JSON and as Markdown."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from bench.environment import Environment
from bench.tables.latency import describe_machine
from bench.text import MISSING, markdown_table, significant
from compress.data.files import write_json
from compress.recipe.sections import BudgetOptions
from compress.runtime.files import write_text
from export.accuracy import standard_error
from export.constraints import DevResult
from export.facts import share_of_gap

HEADER = ["Model", "p50 ms", "Accuracy, %", "Gap closed", "dev, %", "Of the teacher's", "MB", "Front"]


@dataclass(frozen=True)
class Student:
    """A student of the front. Accuracies are fractions of 1, at `precision`."""

    title: str
    family: str  # student.kind
    settings: tuple[str, ...]  # in which it differs from the recipe
    folder: str  # inside the front's directory
    precision: str  # the bundle's default: INT8, or fp32 if no INT8 passes the accuracy gate
    accuracy: float  # on the split for reported figures
    dev: DevResult
    latency_ms: float  # p50 at batch 1 over the task's own texts, tokenisation included
    file_bytes: int
    parameters: int
    architecture: str | None  # of a cnn
    seconds: float | None  # of its own training
    on_front: bool = (
        False  # no other student is both faster and at least as accurate, on the split for reported figures
    )


@dataclass(frozen=True)
class Teacher:
    """The teacher in one software and precision."""

    title: str
    accuracy: float  # on the split for reported figures
    latency_ms: float
    file_bytes: int
    parameters: int | None


@dataclass(frozen=True)
class Front:
    """All students of one task, the fastest first, and what they are compared with."""

    name: str
    created: str
    split: str  # for reported figures
    texts: int  # in that split
    threads: int
    environment: Environment
    teachers: list[Teacher]
    linear: float  # accuracy of the linear model, on that split
    students: list[Student]
    budget: BudgetOptions
    taken: str | None  # title of the student that the budget takes
    verdict: str

    @property
    def teacher(self) -> float:
        """Accuracy of the teacher as it was trained."""
        return self.teachers[0].accuracy

    @property
    def machine(self) -> str:
        """Machine, threads and date in one line."""
        return f"{describe_machine(self.environment, self.threads)} · {self.created[:10]}"


def table(front: Front) -> tuple[list[str], list[list[str]]]:
    """Header and rows: the students by latency with their numbers in the plot, then the teacher and the linear model."""
    rows = [
        [
            f"{number}. {s.title}",
            significant(s.latency_ms),
            f"{100 * s.accuracy:.2f}" + ("" if s.precision == "int8" else f" ({s.precision})"),
            _gap(front, s.accuracy),
            f"{100 * s.dev.accuracy:.2f}",
            f"{100 * s.dev.share:.1f} %",
            significant(s.file_bytes / 1e6),
            " ".join(["●"] * s.on_front + ["taken"] * (s.title == front.taken)),
        ]
        for number, s in enumerate(front.students, start=1)
    ]
    for teacher in front.teachers:
        figures = [significant(teacher.latency_ms), f"{100 * teacher.accuracy:.2f}", _gap(front, teacher.accuracy)]
        rows.append([teacher.title, *figures, MISSING, MISSING, significant(teacher.file_bytes / 1e6), ""])
    linear = [MISSING, f"{100 * front.linear:.2f}", _gap(front, front.linear), *[MISSING] * 3, ""]
    return HEADER, [*rows, ["linear model on n-grams", *linear]]


def write_front(front: Front, directory: Path) -> None:
    """Write `front.json` and `front.md`."""
    content = asdict(front) | {
        "environment": front.environment.model_dump(mode="json"),
        "budget": front.budget.model_dump(mode="json"),
    }
    write_json(directory / "front.json", content)
    error = 100 * standard_error(front.teacher, front.texts)
    parts = [
        f"# {front.name}: accuracy and latency",
        f"> **Not valid.** {front.environment.warning}" if front.environment.warning else "",
        markdown_table(*table(front)),
        f"Students in INT8 unless a precision is named. Accuracy and the share of the gap between the linear model and the teacher that "
        f"is closed: on {front.split} ({front.texts:,} texts, standard error about {error:.1f} points). The last column marks "
        "the students to which no other is both faster and at least as accurate there. Choose by dev, as the budget does: "
        "who chooses by the reported figures no longer reports. p50: at batch 1 over the task's own texts, tokenisation included, "
        f"each model alone in a process; {front.machine}.",
        front.verdict,
        "![accuracy and latency](front.svg)",
        "## Settings\n\nIn which each student differs from the recipe:\n\n"
        + "\n".join(f"- {s.title}: {_settings(s)}" for s in front.students),
    ]
    write_text(directory / "front.md", "\n\n".join(part for part in parts if part) + "\n")


def _settings(student: Student) -> str:
    named = f"`--candidate '{' '.join(student.settings)}'`" if student.settings else "the recipe's own"
    return named + (f"; {student.architecture}" if student.architecture else "")


def _gap(front: Front, accuracy: float) -> str:
    share = share_of_gap(accuracy, front.linear, front.teacher)
    return MISSING if share is None else f"{100 * share:.0f} %"
