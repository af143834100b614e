"""The report of a comparison: all that was measured as JSON, and tables of it as Markdown."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from pydantic import BaseModel

from bench.cells import OWN_TEXTS, Cell, EngineResult
from bench.environment import Environment
from bench.roster import REFERENCE

MISSING = "–"
TIMING = [
    "Tokenisation: from the text to padded arrays of token ids. Model: from those arrays to logits in the host's "
    "memory. The two are timed back to back and added sample by sample; where no column says alone, a time is of both.",
    "Loading, warm-up and accuracy are outside every timing, and so is the HTTP server.",
    "Every engine: the same texts, the same lengths, a fresh process, the same number of threads and the same CPUs, "
    "calls until a fifth of the cell's time has passed as warm-up, garbage collection off while samples are taken.",
    "N tokens: texts made of the task's own words that come to exactly N tokens, special tokens included. "
    "Own texts: the task's own, each alone at batch 1 and sorted by length (the sorting is not timed) in batches.",
    "A sample is one batch. Percentiles are linear between samples; one that the samples are too few for is "
    f"shown as {MISSING}: pQ needs 100 / (100 − Q) of them, so p99 a hundred. Samples come in whole "
    "passes over the inputs.",
    "Peak memory: resident, of the whole process with Python and its libraries, up to the end of the timed cells.",
]


class Report(BaseModel):
    """`report.json`."""

    format: int = 1
    name: str
    created: str  # ISO 8601, UTC
    command: str
    device: str
    threads: int
    cpus: list[int] | None  # every engine could use only these; None: all CPUs
    batch_size: int
    seconds: float  # each cell was measured for so long
    own_texts: int  # number of the task's own texts that were timed
    split: str  # the accuracies and the own texts are of this split
    environment: Environment
    timing: list[str] = TIMING
    engines: list[EngineResult]

    def cell(self, engine: EngineResult, name: str, batch_size: int) -> Cell:
        """The engine's cell with this input and this batch size."""
        return next(cell for cell in engine.cells if cell.input == name and cell.batch_size == batch_size)

    @property
    def inputs(self) -> list[str]:
        """The inputs of the timings, in the order of the tables. They are the same for all engines."""
        return list(dict.fromkeys(cell.input for cell in self.engines[0].cells))

    @property
    def headline(self) -> str:
        """The input in the summary and the plot: 128 tokens if this length was measured, else the largest length."""
        lengths = {cell.length: cell.input for cell in self.engines[0].cells if cell.length}
        return lengths.get(128) or lengths[max(lengths)]

    @property
    def reference(self) -> EngineResult | None:
        """The engine that speed-ups are relative to; None if it was not measured."""
        return next((engine for engine in self.engines if engine.spec.name == REFERENCE), None)

    @property
    def warning(self) -> str | None:
        """Why the times cannot be trusted; None if they can."""
        if not self.environment.busy:
            return None
        return (
            f"The machine was busy when this run started ({self.environment.busy_share:.0%} of its CPUs in use by other "
            "work): its times are not valid. Wait until it is idle and run the command again."
        )


def write_report(report: Report, directory: Path) -> None:
    """Write `report.json`, which holds every raw sample, and `report.md`. No file is ever half written."""
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report.model_dump(mode="json"), indent=1, ensure_ascii=False)
    one_line_arrays = re.sub(r"\[\n[\d\s.,e-]+\]", lambda match: " ".join(match[0].split()), text)
    write_text(directory / "report.json", one_line_arrays + "\n")
    write_text(directory / "report.md", to_markdown(report))


def write_text(path: Path, text: str) -> None:
    """Write a file in one step: a reader sees the old text or the new one, never a part of it."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def to_markdown(report: Report) -> str:
    """The report as people read it."""
    parts = [f"# {report.name}: speed and accuracy"]
    if report.warning:
        parts.append(f"> **Not valid.** {report.warning}")
    parts.append(_conditions(report))
    parts.append(markdown_table(*summary(report)))
    parts.append(
        "\n".join(f"- {engine.spec.title}: {engine.spec.note}." for engine in report.engines if engine.spec.note)
    )
    parts.append("![latency and accuracy](latency_accuracy.svg)")
    parts.append("## Latency at batch 1")
    parts += [
        f"**{_describe(report, name)}**, ms\n\n{markdown_table(*_latency(report, name))}" for name in report.inputs
    ]
    parts.append(f"## Throughput at batch {report.batch_size}")
    parts += [
        f"**{_describe(report, name)}**, texts/s\n\n{markdown_table(*_throughput(report, name))}"
        for name in report.inputs
    ]
    parts.append("## What the timings include")
    parts.append("\n".join(f"- {line}" for line in report.timing))
    return "\n\n".join(part for part in parts if part) + "\n"


def summary(report: Report) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the first table: one row for each engine."""
    total = next((engine.accuracy.total for engine in report.engines if engine.accuracy), None)
    header = [
        "Engine",
        "Parameters",
        "File, MB",
        f"Accuracy, % ({report.split}, n = {total})" if total else "Accuracy, %",
    ]
    header += [f"p50 ms, {name}" for name in report.inputs]
    header += [f"Speed-up, {report.headline}", f"texts/s, {report.headline} × {report.batch_size}", "Peak memory, MB"]
    rows = []
    for engine in report.engines:
        row = [engine.spec.title, millions(engine.parameters), significant(engine.file_bytes / 1e6)]
        row.append(f"{engine.accuracy.percent:.2f}" if engine.accuracy else "time only")
        row += [significant(_p50(report, engine, name)) for name in report.inputs]
        row.append(_speed_up(report, engine, report.headline))
        row.append(significant(report.cell(engine, report.headline, report.batch_size).summary.total_texts_per_s))
        row.append(significant(engine.peak_memory_bytes and engine.peak_memory_bytes / 1e6))
        rows.append(row)
    return header, rows


def _latency(report: Report, name: str) -> tuple[list[str], list[list[str]]]:
    header = [
        "Engine",
        "n",
        "p50",
        "p90",
        "p95",
        "p99",
        "Speed-up (p50)",
        "p50, tokenisation alone",
        "p50, model alone",
    ]
    rows = []
    for engine in report.engines:
        cell = report.cell(engine, name, 1)
        row = [engine.spec.title, str(len(cell.model_ms)), *map(significant, cell.summary.total_ms.values())]
        row += [
            _speed_up(report, engine, name),
            significant(cell.summary.tokenise_ms["p50"]),
            significant(cell.summary.model_ms["p50"]),
        ]
        rows.append(row)
    return header, rows


def _throughput(report: Report, name: str) -> tuple[list[str], list[list[str]]]:
    header = ["Engine", "n batches", "texts/s", "Speed-up", "texts/s, model alone"]
    rows = []
    for engine in report.engines:
        cell = report.cell(engine, name, report.batch_size)
        speed = cell.summary.total_texts_per_s
        base = _texts_per_s(report, report.reference, name)
        row = [engine.spec.title, str(len(cell.model_ms)), significant(speed), _ratio(speed, base)]
        rows.append([*row, significant(cell.summary.model_texts_per_s)])
    return header, rows


def _conditions(report: Report) -> str:
    env = report.environment
    simd = ", ".join(env.simd) or "no SIMD flags known"
    load = MISSING if env.busy_share is None else f"{env.busy_share:.0%}"
    where = f", on {env.gpu}" if env.gpu else ""
    pinned = f", confined to CPUs {', '.join(map(str, report.cpus))}" if report.cpus else ""
    lines = [
        f"- Machine: {env.cpu}, {env.logical_cpus} CPUs ({simd}){where}, {env.system}",
        f"- Threads: {report.threads}{pinned}; CPUs in use at the start: {load}",
        f"- Software: Python {env.python}, {', '.join(f'{name} {found}' for name, found in env.packages.items())}, "
        f"pocketbert {env.pocketbert} ({env.commit or 'no commit known'})",
        f"- {report.created}, `{report.command}`",
    ]
    return "\n".join(lines)


def _describe(report: Report, name: str) -> str:
    if name != OWN_TEXTS:
        return name
    tokens = report.cell(report.engines[0], name, 1).mean_tokens
    return f"Own texts ({report.own_texts} of {report.split}, {tokens:.0f} tokens on average)"


def _p50(report: Report, engine: EngineResult | None, name: str) -> float | None:
    return report.cell(engine, name, 1).summary.total_ms["p50"] if engine else None


def _texts_per_s(report: Report, engine: EngineResult | None, name: str) -> float | None:
    return report.cell(engine, name, report.batch_size).summary.total_texts_per_s if engine else None


def _speed_up(report: Report, engine: EngineResult, name: str) -> str:
    return _ratio(_p50(report, report.reference, name), _p50(report, engine, name))


def _ratio(above: float | None, below: float | None) -> str:
    return f"{significant(above / below)}×" if above and below else MISSING


def significant(value: float | None) -> str:
    """Three significant digits, without an exponent."""
    if value is None:
        return MISSING
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def millions(count: int | None) -> str:
    """A number of weights in millions, such as `4.14 M`."""
    return MISSING if count is None else f"{significant(count / 1e6)} M"


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table. The first column is aligned left, the others right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
