"""The page: the template with its tables, and the values, the style and the script in it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from bench.load.report import LoadReport
from bench.load.report import summary as load_summary
from bench.markdown import Table, conditions, notes, summary
from bench.page.values import cost_tables, length_table, percentile_tables, unit, values
from bench.report import Report
from bench.text import MISSING
from compress.runtime.files import write_text

SCRIPTS = ("drawing.js", "chart.js", "plots.js")


def write_page(report: Report, file: Path, loads: Sequence[LoadReport] = ()) -> None:
    """Write the page in one step."""
    write_text(file, to_html(report, loads))


def to_html(report: Report, loads: Sequence[LoadReport] = ()) -> str:
    """The report as one page, with a plot of each of the loads' stages if there are any.

    Names, notes and commands come from elsewhere, so everything is escaped. Besides, the page's policy lets nothing run but its own
    script, which it knows by its hash, and lets nothing be fetched.
    """
    resources = files(__package__)
    script = "\n".join((resources / name).read_text(encoding="utf-8") for name in SCRIPTS)
    style = (resources / "page.css").read_text(encoding="utf-8")
    warnings = [line for line in (report.partial and f"Partial: {report.partial}.", report.environment.warning) if line]
    page = Template((resources / "page.html").read_text(encoding="utf-8"))
    return page.substitute(
        policy=f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}",
        title=escape(f"{report.name}: speed and accuracy"),
        style=style,
        script=script,
        values=_embedded(values(report, loads)),
        warnings="".join(f'<p class="warning">{escape(line)}</p>' for line in warnings),
        conditions=_list(conditions(report)),
        summary=_table(summary(report), "All engines"),
        notes=_list(notes(report)),
        percentiles=_tables(percentile_tables(report)),
        lengths=_table(length_table(report), "ms for a text"),
        unit=unit(report),
        costs=_tables(cost_tables(report)),
        load="" if loads else " hidden",
        loads=_tables((f"Load on {load.name}", load_summary(load)) for load in loads),
        timing=_list(report.timing),
    )


def _hash(text: str) -> str:
    """The source expression of Content-Security-Policy for an inline element with this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _embedded(value: dict[str, Any]) -> str:
    """JSON that cannot end its script element, whatever strings are in it."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _tables(tables: Iterable[tuple[str, Table]]) -> str:
    return "".join(_table(table, caption) for caption, table in tables)


def _table(table: Table, caption: str) -> str:
    """A table in a box that scrolls, also by keyboard."""
    header, rows = table
    columns = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    lines = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>'
        for first, *cells in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{columns}</tr></thead><tbody>{lines or f'<tr><td>{MISSING}</td></tr>'}</tbody></table></div>"
    )


def _list(lines: Iterable[str]) -> str:
    """A list; what is between backticks is code."""
    coded = (re.sub("`([^`]*)`", r"<code>\1</code>", escape(line)) for line in lines)
    items = "".join(f"<li>{line}</li>" for line in coded)
    return f"<ul>{items}</ul>" if items else ""
