"""Write the tables of `costs.md`: what texts cost in cores, memory and money, from the measured figures in `docs/sentiment`.

Usage: python docs/draw_costs.py [OUTPUT.md]                          writes the page
       python docs/draw_costs.py --texts 1e9 --price 0.05 --busy 0.6  prints the tables for figures of your own
"""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
PAGE, MEASURED = DOCS / "costs.md", DOCS / "sentiment"
TABLE = re.compile(r"(<!-- table: (\w+) -->\n).*?(?=<!-- end -->)", re.DOTALL)
DAY = 86_400


@dataclass(frozen=True)
class Assumed:
    """What is not measured: how many texts a day, dollars for a core and an hour, and the share of the time in which cores work."""

    texts: float = 1e9
    price: float = 0.05
    busy: float = 0.6


@dataclass(frozen=True)
class Model:
    """A way to answer: CPU milliseconds for a text alone and in a batch, tokeniser and model, and bytes of memory of a process."""

    title: str
    accuracy: float | None
    alone: float
    in_batch: float
    memory: float


def read(folder: Path, name: str) -> Any:
    """A measured file."""
    return json.loads((folder / name).read_text(encoding="utf-8"))


def mean_ms(engine: dict[str, Any], texts: str) -> tuple[float, float]:
    """Milliseconds of an engine for a text alone and for one of a batch, of the kind of texts of a report's cells."""
    cells = sorted((one for one in engine["cells"] if one["input"] == texts), key=lambda one: one["batch_size"])
    alone, in_batch = (1000 / float(cell["summary"]["total_texts_per_s"]) for cell in cells)
    return alone, in_batch


def models(folder: Path, texts: str) -> list[Model]:
    """The models, for the task's own texts or for texts of 128 tokens, at which no cascade was measured."""
    engines = {one["spec"]["name"]: one for one in read(folder, "report.json")["engines"]}
    cascade, measured = read(folder, "cascade.json"), read(folder, "costs.json")
    own = texts == "own texts"

    def of(name: str, title: str, memory: float | None = None) -> Model:
        engine = engines[name]
        right = engine["accuracy"] and engine["accuracy"]["correct"] / engine["accuracy"]["total"]
        return Model(title, right, *mean_ms(engine, texts), memory or engine["peak_memory_bytes"])

    rows = {row["title"]: row for row in cascade["rows"]}
    student = of("student-int8", "student, INT8", measured["memory_bytes"]["student"])
    found = [student]
    if own:
        for title in ("10% of dev", next(title for title in rows if title.startswith("as exported"))):
            more = rows[title]["mean_ms"] - rows["student alone"]["mean_ms"]
            share = f"cascade, {rows[title]['share']:.0%} by the teacher"
            memory = measured["memory_bytes"]["cascade"]
            found.append(Model(share, rows[title]["accuracy"], student.alone + more, student.in_batch + more, memory))
    minilm = of("frozen-onnx-int8", "MiniLM (the teacher), INT8")  # the same network before fine-tuning: its times
    minilm = replace(minilm, accuracy=rows["teacher alone"]["accuracy"])
    base = engines["bert-torch"]["spec"]["title"].split(" · ")[0]
    return [*found, minilm, of("bert-onnx-int8", f"{base}, INT8"), of("bert-torch", f"{base}, PyTorch fp32")]


def costs(folder: Path, texts: str, assumed: Assumed) -> str:
    """What the texts of a day cost with each model: as a table without HTTP, and as requests of one text."""
    measured = read(folder, "costs.json")
    bulk, http = (
        (spent["all"] - spent["model"] - spent["tokenise"]) / 1000
        for spent in (measured["rows"]["csv"], measured["request"])
    )
    lines = [
        "| | accuracy | ms of CPU a text, bulk / HTTP | cores, bulk / HTTP | GB of memory, bulk / HTTP | $ a day, bulk / HTTP |",
        "|---|---|---|---|---|---|",
    ]
    for model in models(folder, texts):
        ms = (model.in_batch + bulk, model.alone + http)
        cores = [assumed.texts * one / 1000 / DAY / assumed.busy for one in ms]
        memory = [one * model.memory / 1e9 for one in cores]
        money = [24 * assumed.price * one for one in cores]
        right = "–" if model.accuracy is None else f"{model.accuracy:.1%}"
        cells = (" / ".join(map(digits, pair)) for pair in (ms, cores, memory, money))
        lines.append(f"| {model.title} | {right} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def where(measured: dict[str, Any]) -> str:
    """Where the time of a row and of a request goes."""
    csv, parquet, request = measured["rows"]["csv"], measured["rows"]["parquet"], measured["request"]
    names = {
        "read": ("read the row, or the JSON", "read JSON"),
        "tokenise": ("tokenise", "tokenise"),
        "model": ("model", "model"),
        "write": ("write the row, or the JSON", "write JSON"),
        "rest": ("all else: checks, objects; HTTP", "HTTP and the rest"),
        "all": ("together", "all"),
    }
    lines = ["| µs of CPU | a row of CSV | a row of Parquet | a request of one text |", "|---|---|---|---|"]
    for step, (title, other) in names.items():
        cells = (
            f"{spent[key]:.1f} ({spent[key] / spent['all']:.0%})"
            for spent, key in ((csv, step), (parquet, step), (request, other))
        )
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def network(measured: dict[str, Any], assumed: Assumed) -> str:
    """How much JSON the texts of a day are."""
    sizes = measured["mean_bytes"]
    rates = {name: 8 * size * assumed.texts / DAY / 1e6 for name, size in sizes.items()}
    return (
        f"A request has {sizes['request']} bytes of JSON and an answer {sizes['answer']}: for {assumed.texts:,.0f} texts a day "
        f"{digits(rates['request'])} Mbit/s in and {digits(rates['answer'])} out, before headers.\n"
    )


def digits(number: float) -> str:
    """A number with two or three digits that count."""
    if number >= 100:
        return f"{round(number, 3 - len(str(int(number)))):,.0f}"  # three digits, also of thousands
    return f"{number:.1f}" if number >= 10 else f"{number:.2f}" if number >= 0.1 else f"{number:.3f}"


def tables(folder: Path, assumed: Assumed) -> dict[str, str]:
    """The tables of the page by their names, from the measured figures in a folder."""
    measured = read(folder, "costs.json")
    return {
        "own": costs(folder, "own texts", assumed),
        "long": costs(folder, "128 tokens", assumed),
        "where": where(measured),
        "network": network(measured, assumed),
    }


def page(text: str, folder: Path) -> str:
    """The page with the tables of the measured figures in a folder."""
    made = tables(folder, Assumed())
    return TABLE.sub(lambda match: f"{match[1]}\n{made[match[2]]}\n", text)


def main() -> None:
    """Write the page, or print the tables."""
    parser = argparse.ArgumentParser(description="What texts cost, from measured figures.")
    parser.add_argument("output", nargs="?", type=Path, default=PAGE)
    for name, meaning in (
        ("texts", "texts a day"),
        ("price", "dollars for a core and an hour"),
        ("busy", "share of the time in which cores work"),
    ):
        parser.add_argument(f"--{name}", type=float, help=meaning)
    given = vars(parser.parse_args())
    output = given.pop("output")
    own = {name: value for name, value in given.items() if value is not None}
    if own:
        print("\n".join(tables(MEASURED, Assumed(**own)).values()))
    else:
        output.write_text(page(PAGE.read_text(encoding="utf-8"), MEASURED), encoding="utf-8")


if __name__ == "__main__":
    main()
