"""A table as people read it: Markdown with all that is needed to judge it and to make it again, and a plot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import reduce

from bench.tables.plot import write_plot
from bench.tables.results import Results
from bench.tables.summary import Figure, Summary
from bench.tables.table import Partial, deep_merge
from bench.text import markdown_table
from compress.runtime.errors import UserError
from compress.runtime.files import write_text

READING = {
    "fp32": "of the fp32 student (of the teacher itself in its own row)",
    "int8": "of the INT8 student",
}


def render(results: Results) -> Summary:
    """Write `TABLE.md`, `TABLE.svg` and `TABLE.png` next to the results.

    :raises UserError: there are no results yet.
    """
    summary = Summary(results.table, results.read())
    if not summary.entries:
        raise UserError(f"{results.path}: no results yet; run `python -m bench table {results.table.name}`")
    write_text(results.directory / f"{results.table.name}.md", to_markdown(summary))
    write_plot(summary, results.directory)
    return summary


def to_markdown(summary: Summary) -> str:
    """The table, notes on how to read it, the machine and software, and the commands that make it again."""
    table = summary.table
    parts = [f"# {table.title}", table.note, markdown_table(*summary.rows()), _notes(summary)]
    parts += [f"![{table.title}]({table.name}.svg)", *_shares(summary), *_agreement(summary), *_distance(summary)]
    parts += ["## How it was made", _conditions(summary), _commands(summary)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _notes(summary: Summary) -> str:
    table = summary.table
    splits = " and ".join(sorted({entry.split for entry in summary.entries}))
    f1 = [f"of {data} the F1 of the label {c.positive}" for data, c in table.data.items() if c.metric == "f1"]
    lines = [f"{', '.join(['Accuracy', *f1])} in % on {splits}, {READING[summary.main]}."]
    if any(len(table.seeds_of(data)) > 1 for data in table.data):
        lines.append(
            "± is the sample standard deviation over the seeds; a seed also chooses the texts where a sample is used."
        )
    if (gains := _gains(summary, "value")) is not None:
        lines.append(gains)
    if home := summary.at_home:
        lines.append(
            f"On the column that it was searched on, an architecture has {home.signed} points more (n = {home.seeds}, ± the "
            "standard error of the mean) than those that were searched on the others have there."
        )
    for title, columns in summary.shared.items():
        lines.append(f"{title}: over the columns that every full row has, {', '.join(columns)}.")
    if summary.timed:
        lines.append(
            "p50 ms: a text at a time from tokenisation to logits, INT8 (the teacher: PyTorch fp32), one pinned thread."
        )
    lines += [f"{data}: {cut}." for data in table.data if (cut := _cut(table.base, table.data[data].recipe))]
    lines += [f"{name}: {part.note}" for name, part in [*table.data.items(), *table.method.items()] if part.note]
    return _list(lines)


def _shares(summary: Summary) -> list[str]:
    """What students keep of their teachers; empty if the table has no linear model to compare with."""
    rows = summary.share_rows()
    if rows is None:
        return []
    text = (
        "The share of the gap between the linear model and the teacher that a student closes, "
        "(student - linear) / (teacher - linear), of the means over the seeds; in brackets student / teacher."
    )
    return ["## Share of the gap", markdown_table(*rows), text]


def _of_teacher(summary: Summary, figure: Figure, title: str, reading: str) -> list[str]:
    """A comparison of students with their teachers; empty if no run has one."""
    rows = summary.rows_of_teacher(figure)
    if rows is None:
        return []
    gains = _gains(summary, figure)
    return [f"## {title}", markdown_table(*rows), _list([reading, *([gains] if gains else [])])]


def _agreement(summary: Summary) -> list[str]:
    """How often students give the same label as their teachers."""
    reading = (
        f"In % of the same texts: those to which the {summary.main} student gives its teacher's label, right or wrong. That is what it "
        "is distilled for."
    )
    return _of_teacher(summary, "agreement", "Agreement with the teacher", reading)


def _distance(summary: Summary) -> list[str]:
    """How far students lie from their teachers."""
    reading = (
        f"The mean KL divergence of the {summary.main} student's probabilities from its teacher's, in nats, on the same texts: less is nearer. It "
        "tells students apart that have as many texts right."
    )
    return _of_teacher(summary, "distance", "Distance from the teacher", reading)


def _gains(summary: Summary, figure: Figure) -> str | None:
    """What each row has more than the row `against`; None if the table has none, or no runs to compare."""
    against = summary.table.against
    if against is None:
        return None
    found = {method: summary.gain(method, against, figure) for method in summary.table.method if method != against}
    texts = [f"{method} {gain.signed} (n = {gain.seeds})" for method, gain in found.items() if gain]
    if not texts:
        return None
    unit = "nats" if figure == "distance" else "points"
    return f"Against {against}, run by run on the same column and seed, in {unit}, ± the standard error of the mean: {', '.join(texts)}."


def _cut(*parts: Partial) -> str:
    """How much of a column's data was used; empty if all of it was."""
    data = reduce(deep_merge, parts).get("data", {})
    cuts = [f"a sample of {data['limit']:,} texts of each split"] if "limit" in data else []
    cuts += [f"{data['train_fraction']:.0%} of the training texts"] if data.get("train_fraction", 1) < 1 else []
    cuts += [f"{data['train_limit']:,} training texts at most"] if "train_limit" in data else []
    return ", ".join(cuts)


def _conditions(summary: Summary) -> str:
    runs = list({entry.run: entry for entry in summary.entries}.values())  # one entry of each run
    dates = sorted({entry.date for entry in runs})
    wanted = sum(1 for _ in summary.table.runs())
    lines = [
        f"{len(runs)} of {wanted} runs, {sum(entry.seconds or 0 for entry in runs) / 3600:.1f} h of training (of students "
        "without their teachers, of teachers in their own rows; what runs share, like a language model, counts in each), "
        f"{' to '.join(dict.fromkeys([dates[0], dates[-1]]))}"
    ]
    lines += [f"Trained on: {text}" for text in _counted(entry.machine for entry in runs)]
    lines += [f"Timed: {text}" for text in _counted(entry.latency_of for entry in runs if entry.latency_of)]
    software = (", ".join(f"{name} {version}" for name, version in entry.versions.items()) for entry in runs)
    lines += [f"Software: {text}" for text in _counted(software)]
    lines += [f"Commit: {text}" for text in _counted(entry.commit or "unknown" for entry in runs)]
    lines += [f"Seeds: {data}: {', '.join(map(str, summary.table.seeds_of(data)))}" for data in summary.table.data]
    return _list(lines)


def _commands(summary: Summary) -> str:
    table = summary.table
    folder = " --data DIR" if any(column.train for column in table.data.values()) else ""
    files = ", DIR being the folder with the files that the table's `[data]` names" if folder else ""
    last = max(summary.entries, key=lambda entry: entry.date).run
    only = f"method={last.method},data={last.data},seed={last.seed}"
    command = f"python -m bench table {table.name}{folder}"
    return (
        f"All of it{files}:\n\n```sh\n{command}\n```\n\n"
        f"One run again, against the value kept:\n\n```sh\n{command} --only {only} --force\n```"
    )


def _counted(texts: Iterable[str]) -> list[str]:
    """Each text once, the most frequent first. If there are several, each with its number of runs."""
    counts = Counter(texts).most_common()
    return [text + (f" ({count} runs)" if len(counts) > 1 else "") for text, count in counts]


def _list(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
