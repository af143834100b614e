"""Conditions on the student's figures that end a command with exit status 1: `speedup<100`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from bench.figures import share_of_gap, speed_up, teacher_share
from bench.report import Report
from bench.roster import LINEAR, REFERENCE, TEACHER
from bench.text import significant
from compress.runtime.errors import UserError

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_FORM = re.compile(r"\s*([A-Za-z_]\w*)\s*(<=|>=|<|>)\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*")


@dataclass(frozen=True)
class _Figure:
    """A figure of the student, and the other engines that it needs."""

    of: Callable[[Report], float | None]
    needs: tuple[str, ...] = ()


def _accuracy(report: Report) -> float | None:
    student = report.engine(report.student)
    return student.accuracy.percent / 100 if student and student.accuracy else None


def _teacher_share(report: Report) -> float | None:
    student = report.engine(report.student)
    return teacher_share(report, student) if student else None


def _gap_share(report: Report) -> float | None:
    student = report.engine(report.student)
    share = share_of_gap(report, student) if student and student.accuracy else None
    return share.value if share else None


def _speedup(report: Report) -> float | None:
    student = report.engine(report.student)
    found = speed_up(report, student, report.headline) if student else None
    return found.value if found else None


def _p50_ms(report: Report) -> float | None:
    cell = report.cell(report.engine(report.student), report.headline, 1)
    return cell.summary.total_ms["p50"] if cell else None


def _texts_per_s(report: Report) -> float | None:
    cell = report.cell(report.engine(report.student), report.headline, report.batch_size)
    return cell.summary.total_texts_per_s / report.threads if cell else None


def _file_mb(report: Report) -> float | None:
    student = report.engine(report.student)
    return student.file_bytes / 1e6 if student else None


FIGURES = {
    "accuracy": _Figure(_accuracy),  # a fraction of 1
    "teacher_share": _Figure(_teacher_share, (TEACHER,)),
    "gap_share": _Figure(_gap_share, (TEACHER, LINEAR)),
    "speedup": _Figure(_speedup, (REFERENCE,)),  # of p50 at the headline's length, like p50_ms
    "p50_ms": _Figure(_p50_ms),
    "texts_per_s": _Figure(_texts_per_s),  # per core
    "file_mb": _Figure(_file_mb),
}


@dataclass(frozen=True)
class Condition:
    """NAME OPERATOR NUMBER, about the default student."""

    name: str
    sign: str
    limit: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `speedup<100`.

        :raises UserError: it has another form, or the name is not one of `FIGURES`.
        """
        found = _FORM.fullmatch(text)
        if found is None:
            raise UserError(f"--fail-if '{text}': write a figure, one of < <= > >= and a number, such as 'speedup<100'")
        name, sign, limit = found.groups()
        if name not in FIGURES:
            raise UserError(f"--fail-if '{text}': no figure {name!r}; there are {', '.join(FIGURES)}")
        return cls(name, sign, float(limit))

    def __str__(self) -> str:
        return f"{self.name}{self.sign}{self.limit:g}"

    def check(self, engines: list[str], student: str) -> None:
        """Refuse a condition before anything is measured if an engine that it needs is left out.

        :raises UserError: it is.
        """
        if missing := [name for name in (student, *FIGURES[self.name].needs) if name not in engines]:
            raise UserError(
                f"--fail-if '{self}': needs {', '.join(missing)}, which --only, --skip or --rivals leaves out"
            )

    def met(self, report: Report) -> str | None:
        """What is to be said if the condition is met, so that the command fails; None if it is not.

        A figure that the report does not have meets it: a check that could not be made has not passed.
        """
        value = FIGURES[self.name].of(report)
        if value is None:
            return f"--fail-if '{self}': {self.name} was not measured"
        return (
            f"--fail-if '{self}': {self.name} is {significant(value)}"
            if _OPERATORS[self.sign](value, self.limit)
            else None
        )
