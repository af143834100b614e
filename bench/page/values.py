"""What the plots of a page show, as values for its script and as tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bench.cells import Cell, EngineResult
from bench.load.report import QUANTILES, LoadReport, Stage
from bench.markdown import Table, accuracy_text, describe_input, share_text, speed_up_text
from bench.report import Report
from bench.text import significant

# Smallest and largest sample included, since outliers are kept.
STEPS = {
    "min": 0,
    "p10": 10,
    "p25": 25,
    "p50": 50,
    "p75": 75,
    "p90": 90,
    "p95": 95,
    "p99": 99,
    "p99.9": 99.9,
    "max": 100,
}
LOAD_STEPS = {f"p{q:g}": q for q in QUANTILES}
BILLION = 1e9


def values(report: Report, loads: Sequence[LoadReport]) -> dict[str, Any]:
    """All that the script reads. Times are in ms, memory in GB (1e9 bytes); what is None was not measured."""
    return {
        "inputs": [{"name": name, "title": describe_input(report, name)} for name in report.inputs],
        "headline": report.headline,
        "batch": report.batch_size,
        "split": report.split,
        "unit": unit(report),
        "steps": list(STEPS),
        "engines": [_engine(report, engine) for engine in report.engines],
        "loadSteps": list(LOAD_STEPS),
        "loads": [
            {"title": f"{load.name}, {mode} loop", "stages": [_stage(stage) for stage in stages]}
            for load in loads
            for mode in ("open", "closed")
            # In the order of the load: a server that has too much of it answers less than before.
            if (
                stages := sorted((s for s in load.stages if s.mode == mode), key=lambda s: s.rate or s.connections or 0)
            )
        ],
    }


def unit(report: Report) -> str:
    """What the cost is of: a core, or the GPU."""
    return "GPU" if report.device == "cuda" else "core"


def percentile_tables(report: Report) -> Iterator[tuple[str, Table]]:
    """Latency at batch 1 of each input, with its title."""
    for name in report.inputs:
        cells = [(engine, cell) for engine in report.engines if (cell := report.cell(engine, name, 1))]
        rows = [[engine.spec.title, *map(significant, quantiles(cell).values())] for engine, cell in cells]
        yield f"{describe_input(report, name)}, ms", (["Engine", *STEPS], rows)


def length_table(report: Report) -> Table:
    """Ms for a text, at each input and batch size."""
    places = [(name, size) for size in dict.fromkeys((1, report.batch_size)) for name in report.inputs]
    rows = []
    for engine in report.engines:
        if engine.cells:
            cells = [report.cell(engine, name, size) for name, size in places]
            rows.append([engine.spec.title, *(significant(text_ms(cell) if cell else None) for cell in cells)])
    return ["Engine", *(f"{name} × {size}" for name, size in places)], rows


def cost_tables(report: Report) -> Iterator[tuple[str, Table]]:
    """The cost of each input at the report's batch size, with its title."""
    header = ["Engine", f"texts per {unit(report)}-second", "texts/s per GB", f"1e9 texts, {unit(report)}-hours"]
    for name in report.inputs:
        rows = []
        for engine in report.engines:
            if cell := report.cell(engine, name, report.batch_size):
                rows.append([engine.spec.title, *map(significant, cost(report, engine, cell).values())])
        yield f"{describe_input(report, name)}, batch {report.batch_size}", (header, rows)


def quantiles(cell: Cell) -> dict[str, float | None]:
    """The samples at each of `STEPS`; None where they are too few for it (p99: fewer than 100)."""
    samples = cell.total_ms
    known = {name: q for name, q in STEPS.items() if q in (0, 50, 100) or len(samples) * min(q, 100 - q) >= 100 - 1e-6}
    found = {name: round(float(np.percentile(samples, q)), 5) for name, q in known.items()} if samples else {}
    return {name: found.get(name) for name in STEPS}


def text_ms(cell: Cell) -> float | None:
    """Milliseconds for a text: at batch 1 the median; in batches the mean, since the last batch of the own texts may be smaller."""
    return cell.summary.total_ms["p50"] if cell.batch_size == 1 else 1e3 / cell.summary.total_texts_per_s


def cost(report: Report, engine: EngineResult, cell: Cell) -> dict[str, float | None]:
    """Texts per second of a core (or GPU), per second and GB of memory of the process, and hours for 1e9 texts."""
    speed = cell.summary.total_texts_per_s
    each = speed if report.device == "cuda" else speed / report.threads
    memory = engine.peak_memory_bytes
    return {"second": each, "memory": memory and speed / (memory / 1e9), "hours": BILLION / each / 3600}


def _engine(report: Report, engine: EngineResult) -> dict[str, Any]:
    accuracy = engine.accuracy
    return {
        "title": engine.spec.title,
        "family": engine.spec.family,
        "student": engine.spec.name == report.student,
        "accuracy": accuracy.percent if accuracy else None,
        "said": {"accuracy": accuracy_text(report, engine), "share": share_text(report, engine)},
        "cells": [_cell(report, engine, cell) for cell in engine.cells],
    }


def _cell(report: Report, engine: EngineResult, cell: Cell) -> dict[str, Any]:
    return {
        "input": cell.input,
        "batch": cell.batch_size,
        "length": cell.length,
        "tokens": cell.mean_tokens,
        "samples": len(cell.model_ms),
        "quantiles": quantiles(cell),
        "textMs": text_ms(cell),
        "speedUp": speed_up_text(report, engine, cell.input) if cell.batch_size == 1 else "",
        "cost": cost(report, engine, cell),
    }


def _stage(stage: Stage) -> dict[str, Any]:
    return {
        "title": stage.title,
        "perSecond": stage.answers_per_s,
        "quantiles": {name: stage.quantile(q) for name, q in LOAD_STEPS.items()},
        "errors": sum(stage.errors.values()),
        "requests": stage.requests,
    }
