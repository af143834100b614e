"""A report as people read it: tables in Markdown."""

from __future__ import annotations

from bench.cells import OWN_TEXTS, EngineResult
from bench.figures import Measure, accuracy_interval, share_of_gap, speed_up
from bench.report import Report
from bench.text import MISSING, in_brackets, markdown_table, millions, significant

Table = tuple[list[str], list[list[str]]]  # header and rows


def to_markdown(report: Report) -> str:
    """The report as people read it."""
    parts = [f"# {report.name}: speed and accuracy"]
    if report.partial:
        parts.append(f"> **Partial.** The measurement was interrupted: {report.partial}.")
    if report.environment.warning:
        parts.append(f"> **Not valid.** {report.environment.warning}")
    if report.inputs:
        parts += [markdown_table(*headline(report)), headline_caption(report), "## All engines"]
    parts.append("\n".join(f"- {line}" for line in conditions(report)))
    parts.append(markdown_table(*summary(report)))
    parts.append("\n".join(f"- {line}" for line in notes(report)))
    parts.append("![latency and accuracy](latency_accuracy.svg)")
    parts.append("## Latency at batch 1")
    parts += [
        f"**{describe_input(report, name)}**, ms\n\n{markdown_table(*_latency(report, name))}" for name in report.inputs
    ]
    parts.append(f"## Throughput at batch {report.batch_size}")
    parts += [
        f"**{describe_input(report, name)}**, texts/s\n\n{markdown_table(*_throughput(report, name))}"
        for name in report.inputs
    ]
    parts.append("## What the timings include")
    parts.append("\n".join(f"- {line}" for line in report.timing))
    return "\n\n".join(part for part in parts if part) + "\n"


def notes(report: Report) -> list[str]:
    """What is to be said about single engines, a line each."""
    lines = [f"{engine.spec.title}: {engine.spec.note}." for engine in report.engines if engine.spec.note]
    for engine in report.engines:
        if unstable := [f"{cell.input} × {cell.batch_size}" for cell in engine.cells if not cell.stable]:
            lines.append(f"{engine.spec.title}: still getting faster after the warm-up at {', '.join(unstable)}.")
    return [*lines, *(f"{name} was left out: {reason}" for name, reason in report.skipped.items())]


def headline(report: Report) -> Table:
    """The table for a README: what one would compare at a glance, without intervals."""
    rows = []
    for engine in report.engines:
        share = share_of_gap(report, engine) if engine.accuracy else None
        faster = speed_up(report, engine, report.headline)
        row = [
            engine.spec.title,
            f"{engine.accuracy.percent:.2f}" if engine.accuracy else accuracy_text(report, engine),
            f"{share.value:.2f}" if share else MISSING,
            significant(engine.file_bytes / 1e6),
            significant(_p50(report, engine, report.headline)),
            f"{significant(faster.value)}×" if faster else MISSING,
        ]
        rows.append([f"**{cell}**" for cell in row] if engine.spec.name == report.student else row)
    return ["", "accuracy, %", "share of the gap", "size, MB", "p50, ms", "faster"], rows


def headline_caption(report: Report) -> str:
    """What the figures of `headline` are of."""
    total = next((engine.accuracy.total for engine in report.engines if engine.accuracy), None)
    env = report.environment
    on = f"Accuracy on {total:,} texts of {report.split}. " if total else ""
    where = env.gpu or f"{report.threads} thread{'s' if report.threads > 1 else ''} of {env.cpu}"
    faster = f"faster than {report.reference.spec.title}" if report.reference else "faster: BERT was not measured"
    return f"{on}p50: one text, {report.headline}, tokenisation included, {where}; {faster}. {report.created[:10]}, commit {env.commit or 'unknown'}."


def summary(report: Report) -> Table:
    """The first table: one row for each engine."""
    total = next((engine.accuracy.total for engine in report.engines if engine.accuracy), None)
    header = [
        *("Engine", "Parameters", "File, MB"),
        f"Accuracy, % ({report.split}, n = {total})" if total else "Accuracy, %",
        "Share of the gap",
        *(f"p50 ms, {name}" for name in report.inputs),
        f"Speed-up, {report.headline}",
        f"texts/s per core, {report.headline} × {report.batch_size}",
        *("Peak memory, MB", "Timed"),
    ]
    return header, [_summary_row(report, engine) for engine in report.engines]


def _summary_row(report: Report, engine: EngineResult) -> list[str]:
    speed = _texts_per_s(report, engine, report.headline)
    return [
        engine.spec.title,
        millions(engine.parameters),
        significant(engine.file_bytes / 1e6),
        accuracy_text(report, engine),
        share_text(report, engine),
        *(significant(_p50(report, engine, name)) for name in report.inputs),
        speed_up_text(report, engine, report.headline),
        significant(speed and speed / report.threads),
        significant(engine.peak_memory_bytes and engine.peak_memory_bytes / 1e6),
        engine.spec.includes if engine.cells else MISSING,
    ]


def brief(report: Report) -> Table:
    """The columns of the first table that fit on a terminal."""
    header, rows = summary(report)
    wanted = {"Engine", "File, MB", "Share of the gap", f"p50 ms, {report.headline}"}
    kept = [
        i
        for i, name in enumerate(header)
        if name in wanted or name.startswith(("Accuracy", "Speed-up", "texts/s per core"))
    ]
    return [header[i] for i in kept], [[row[i] for i in kept] for row in rows]


def _latency(report: Report, name: str) -> Table:
    header = [
        *("Engine", "n", "p50", "p90", "p95", "p99", "Speed-up (p50)"),
        *("p50, tokenisation alone", "p50, model alone"),
    ]
    rows = []
    for engine in report.engines:
        if cell := report.cell(engine, name, 1):
            figures = cell.summary
            row = [engine.spec.title, str(len(cell.model_ms)), *map(significant, figures.total_ms.values())]
            row += [speed_up_text(report, engine, name), significant(figures.tokenise_ms["p50"])]
            rows.append([*row, significant(figures.model_ms["p50"])])
    return header, rows


def _throughput(report: Report, name: str) -> Table:
    header = ["Engine", "n batches", "texts/s", "Speed-up", "texts/s, model alone", "Padding, %"]
    rows = []
    for engine in report.engines:
        if cell := report.cell(engine, name, report.batch_size):
            row = [engine.spec.title, str(len(cell.model_ms)), significant(cell.summary.total_texts_per_s)]
            row += [speed_up_text(report, engine, name, "texts/s"), significant(cell.summary.model_texts_per_s)]
            rows.append([*row, MISSING if cell.padding is None else f"{100 * cell.padding:.1f}"])
    return header, rows


def conditions(report: Report) -> list[str]:
    """What the run was measured with, a line each; commands are between backticks."""
    env = report.environment
    simd = ", ".join(env.simd) or "no SIMD flags known"
    load = MISSING if env.busy_share is None else f"{env.busy_share:.0%}"
    where = f", on {env.gpu}" if env.gpu else ""
    pinned = f", confined to CPUs {', '.join(map(str, report.cpus))}" if report.cpus else ""
    turns = "engines took turns" if report.interleaved else "one engine after the other"
    return [
        f"Machine: {env.cpu}, {env.logical_cpus} CPUs ({simd}){where}, {env.system}",
        f"Threads: {report.threads}{pinned}; CPUs in use at the start: {load}; {turns}",
        f"Software: Python {env.python}, {', '.join(f'{name} {found}' for name, found in env.packages.items())}, "
        f"pocketbert {env.pocketbert} ({env.commit or 'no commit known'})",
        f"{report.created}, `{report.command}`",
    ]


def describe_input(report: Report, name: str) -> str:
    """The name of an input; of the task's own texts, how many and how long they are."""
    cell = next((cell for engine in report.engines if (cell := report.cell(engine, name, 1))), None)
    if name != OWN_TEXTS or cell is None:
        return name
    return f"Own texts ({report.own_texts} of {report.split}, {cell.mean_tokens:.0f} tokens on average)"


def accuracy_text(report: Report, engine: EngineResult) -> str:
    """Accuracy in % with its interval, or why there is none."""
    if engine.accuracy is None:
        return "not measured" if engine.spec.scored else "time only"
    return f"{engine.accuracy.percent:.2f}{in_brackets(accuracy_interval(engine.accuracy), 100, 1)}"


def share_text(report: Report, engine: EngineResult) -> str:
    """The share of the gap with its interval."""
    share = share_of_gap(report, engine) if engine.accuracy else None
    if share is None:
        return MISSING
    if engine in (report.linear, report.teacher):
        return f"{share.value:.2f}"
    return f"{share.value:.2f}{in_brackets(share, digits=2)}"


def _p50(report: Report, engine: EngineResult, name: str) -> float | None:
    cell = report.cell(engine, name, 1)
    return cell.summary.total_ms["p50"] if cell else None


def _texts_per_s(report: Report, engine: EngineResult, name: str) -> float | None:
    cell = report.cell(engine, name, report.batch_size)
    return cell.summary.total_texts_per_s if cell else None


def speed_up_text(report: Report, engine: EngineResult, name: str, measure: Measure = "p50") -> str:
    """How many times faster than the reference an engine is on an input, with the interval."""
    found = speed_up(report, engine, name, measure)
    if found is None:
        return MISSING
    return f"{significant(found.value)}×{'' if engine is report.reference else in_brackets(found)}"
