"""The figures of the headline, as they are written in README.md, docs/measure.md and docs/findings.md, from a folder of evidence."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from typing import NamedTuple

from headline_evidence import (
    BASE,
    BASE_INT8,
    BASE_TITLE,
    ENGINES,
    EXPORTED,
    INPUT,
    INPUTS,
    LINEAR,
    STUDENT,
    TEACHER,
    TUTORED,
    Evidence,
    known,
)

from bench.cascade.report import CascadeReport, Row
from bench.environment import Environment
from bench.markdown import share_text
from bench.text import millions, significant
from compress.runtime.errors import UserError
from export.accuracy import standard_error

RECIPE = "recipes/sentiment.toml"
README_ROWS = {
    BASE: f"{BASE_TITLE} (a BERT of 12 layers, fine-tuned), PyTorch fp32",
    TEACHER: "teacher (MiniLM, fine-tuned), PyTorch fp32",
    **{name: ENGINES[name] for name in ("student-fp32", STUDENT)},
    TUTORED: "such a student whose teacher was [tutored](docs/texts.md#a-tutor) by MPNet, INT8",
}
VECTORS = {"avx512f": "AVX512", "avx2": "AVX2", "asimd": "NEON"}  # the best first


class Claim(NamedTuple):
    """Words of a document that figures could make wrong, and whether they are right."""

    file: str
    words: str
    holds: bool


def figures(evidence: Evidence) -> dict[str, str]:
    """All figures by name. The names are those of the passages in `update_headline.py`."""
    return {
        **_of_the_report(evidence),
        **_of_the_student(evidence),
        **_of_the_cascade(evidence),
        "cost": f"{100 * evidence.genotype['cost']:.0f}",
        "base_frozen": f"{100 * evidence.base_teacher['frozen']['accuracy']['test']:.2f}",
    }


def _of_the_report(evidence: Evidence) -> dict[str, str]:
    report, teacher, student = evidence.report, evidence.percent(TEACHER), evidence.percent(STUDENT)
    texts = known(evidence.engine(STUDENT).accuracy).total
    return {
        **machine(report.environment),
        "date": report.created[:10],
        "bench_command": typed(report.command, "compare", "bench"),
        "batch_size": str(report.batch_size),
        "texts": f"{texts:,}",
        "readme_rows": rows(readme_row(evidence, name) for name in README_ROWS),
        "measure_rows": rows(measure_row(evidence, name) for name in ENGINES),
        "linear": f"{evidence.percent(LINEAR):.2f}",
        "linear_ms": significant(evidence.p50(LINEAR)),
        "base": f"{evidence.percent(BASE):.2f}",
        "gap_share": f"{100 * evidence.gap_share(STUDENT):.0f}",
        "teacher_share": f"{100 * student / teacher:.1f}",
        "base_share": f"{100 * student / evidence.percent(BASE):.1f}",
        "below_teacher": f"{teacher - student:.1f}",
        "error": f"{100 * standard_error(student / 100, texts):.1f}",
        "base_above": f"{evidence.percent(BASE_INT8) - student:.1f}",
        "base_times": f"{evidence.p50(BASE_INT8) / evidence.p50(STUDENT):.0f}",
    }


def _of_the_student(evidence: Evidence) -> dict[str, str]:
    card = evidence.manifest["provenance"]
    calibration = evidence.manifest["models"]["int8"]["calibration"]
    before, after = calibration["ece_before"], calibration["ece_after"]
    return {
        "seed": str(card["seed"]),
        **{f"{split}_texts": f"{card['sizes'][split]:,}" for split in ("train", "dev")},
        "shared": f"{card['contamination'][0]['shared']:,}",
        "findings_rows": findings_rows(evidence),
        "temperature": f"{calibration['temperature']:.2f}",
        **{f"ece_{split}_before": f"{before[split]:.3f}" for split in ("dev", "test")},
        **{f"ece_{split}_after": f"{after[split]:.3f}" for split in ("dev", "test")},
    }


def _of_the_cascade(evidence: Evidence) -> dict[str, str]:
    cascade, exported = evidence.cascade, evidence.exported
    command = typed(cascade.command, "cascade", "cascade")
    within = re.search(r"--set cascade\.within_points=(\S+)", command)
    if within is None:
        raise UserError("cascade.json: its command does not say cascade.within_points; give it with the recipe's file")
    return {
        **{f"cascade_{name}": said for name, said in machine(cascade.environment).items()},
        "cascade_date": cascade.created[:10],
        "cascade_command": command,
        "cascade_texts": f"{cascade.texts:,}",
        "within": within[1],
        "cascade_rows": rows(cascade_row(cascade, row, within[1]) for row in cascade.rows),
        "cascade_share": f"{100 * exported.share:.0f}",
        "cascade_accuracy": f"{100 * exported.accuracy:.2f}",
        "cascade_faster": f"{cascade.rows[-1].mean_ms / exported.mean_ms:.1f}",
    }


def machine(environment: Environment) -> dict[str, str]:
    """The machine and the commit of a measurement.

    :raises UserError: the commit is not known.
    """
    if environment.commit is None:
        raise UserError("report.json or cascade.json: of no known commit; measure in a git checkout")
    vector = next((name for flag, name in VECTORS.items() if flag in environment.simd), "no SIMD")
    integer = any("vnni" in flag or flag == "amx_int8" for flag in environment.simd)
    commit = environment.commit.rstrip("+")
    return {
        "cpu": f"{'an' if environment.cpu[0] in 'AEIOU' else 'a'} {environment.cpu}",
        "simd": f"{vector} and {'' if integer else 'no '}VNNI",
        "commit": commit[:7] + environment.commit[len(commit) :],  # "+" marks uncommitted changes
    }


def typed(command: str, module_name: str, name: str) -> str:
    """A command of `python -m bench` as one of `pocketbert`, without the folder of its results.

    :raises UserError: it does not measure the default recipe.
    """
    words = shlex.split(command.replace(f"python -m bench {module_name} ", f"pocketbert {name} "))
    if "--out" in words:
        place = words.index("--out")
        del words[place : place + 2]
    if words[:3] != ["pocketbert", name, RECIPE]:
        raise UserError(f"`{command}`: not a measurement of {RECIPE}; give its file as the first argument")
    return shlex.join(words)


def rows(cells: Iterable[list[str]]) -> str:
    """The rows of a Markdown table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def bold(cells: list[str]) -> list[str]:
    """The cells of the row that a reader looks for."""
    return [f"**{cell}**" for cell in cells]


def short(value: float) -> str:
    """A figure for a glance: one digit after the point, none from a hundred on."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def readme_row(evidence: Evidence, name: str) -> list[str]:
    """Accuracy, size, p50 and speed of an engine."""
    cells = [
        README_ROWS[name],
        f"{evidence.percent(name):.2f}",
        short(evidence.engine(name).file_bytes / 1e6),
        significant(evidence.p50(name)),
        "1" if name == BASE else short(evidence.faster(name)),
    ]
    return bold(cells) if name == STUDENT else cells


def measure_row(evidence: Evidence, name: str) -> list[str]:
    """All that the table of docs/measure.md has of an engine."""
    report, engine = evidence.report, evidence.engine(name)
    of_student = engine.spec.family == "student"  # only there has the share its interval
    share = share_text(report, engine) if of_student else f"{evidence.gap_share(name):.2f}"
    batched = known(report.cell(engine, INPUT, report.batch_size))
    cells = [
        ENGINES[name],
        millions(engine.parameters),
        significant(engine.file_bytes / 1e6),
        f"{evidence.percent(name):.2f}",
        {TEACHER: "1", LINEAR: "0"}.get(name, share.replace("-", "−")),
        *(significant(evidence.p50(name, texts)) for texts in INPUTS),
        "1×" if name == BASE else f"{significant(evidence.faster(name))}×",
        significant(batched.summary.total_texts_per_s / report.threads),
    ]
    return bold(cells) if name == STUDENT else cells


def findings_rows(evidence: Evidence) -> str:
    """Size and accuracy of linear model, teacher and student."""
    manifest = evidence.manifest
    found = []
    for title, name in (
        ("linear model (TF-IDF and logistic regression)", "linear"),
        ("teacher (MiniLM, fine-tuned)", "teacher"),
    ):
        accuracy = manifest["provenance"][name]["accuracy"]
        found.append([title, "", accuracy["dev"], accuracy["test"]])
    for title, precision in (("student, fp32", "fp32"), ("student, INT8", "int8")):
        model = manifest["models"][precision]
        size = short(manifest["files"][model["file"]]["bytes"] / 1e6)
        found.append([title, size, model["dev_accuracy"], model["test_accuracy"]])
    cells = ([title, size, f"{100 * dev:.2f}", f"{100 * test:.2f}"] for title, size, dev, test in found)
    return rows(cells).replace("|  |", "| |")


def cascade_row(cascade: CascadeReport, row: Row, within: str) -> list[str]:
    """What the table of docs/measure.md has of a threshold."""
    title = re.sub(r"(\d)% of dev", r"\1 % of dev", row.title)
    exported = title.startswith(EXPORTED)
    teacher = cascade.rows[-1]
    cells = [
        title.replace(EXPORTED, f"within {within} points"),
        f"{100 * row.share:.{0 if row.share in (0, 1) else 1}f} %",
        f"{100 * row.accuracy:.2f}",
        f"{row.ece:.3f}",
        significant(row.mean_ms),
        "1×" if row is teacher else f"{significant(teacher.mean_ms / row.mean_ms)}×",
    ]
    return bold(cells) if exported else cells


def claims(evidence: Evidence) -> list[Claim]:
    """What the documents say in words about these figures."""
    student, teacher = evidence.percent(STUDENT), evidence.percent(TEACHER)
    more = 100 * evidence.exported.accuracy - student
    cheap = [name for name in ENGINES if name != TUTORED and evidence.p50(name) < evidence.p50(STUDENT)]
    return [
        Claim("README.md", "answers in under a millisecond on one CPU core", evidence.p50(STUDENT) < 1),
        Claim("README.md", "closes most of the rest", more > (teacher - student) / 2),
        Claim("README.md", "The student is less accurate than its teacher", student < teacher),
        Claim(
            "docs/measure.md",
            "static embeddings and the fastText-style model are faster, and less accurate than n-grams",
            {"static", "fasttext"} <= set(cheap)
            and max(evidence.percent("static"), evidence.percent("fasttext")) < evidence.percent(LINEAR),
        ),
        Claim(
            "docs/measure.md",
            "nothing else here is both cheaper and better than the student",
            all(evidence.percent(name) < student for name in cheap),
        ),
    ]
