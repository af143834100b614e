"""The commands that belong to no other package: init, predict and doctor."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compress.console import console, print_table
from compress.runtime.errors import UserError
from export.commands import BundleArgument, Device, JsonOption
from serve.bulk.command import run_shown
from serve.bulk.options import (
    BulkOptions,
    CascadeOption,
    ColumnsOption,
    EncodingOption,
    ForceOption,
    MaxBadOption,
    PartRowsOption,
    PrefixOption,
    QuotingOption,
    RayOption,
    SeparatorOption,
    ThresholdOption,
    UnsureOption,
    WorkersOption,
    model_settings,
    names_of,
)

if TYPE_CHECKING:
    from pocketbert.classifier import Prediction

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

BATCH = 256  # texts that are answered together


class Format(StrEnum):
    """How predictions are printed."""

    json = "json"
    table = "table"


@app.command()
def init(
    data: Annotated[
        Path, typer.Argument(help="table of labelled texts: .csv, .tsv, .jsonl or .parquet (or .gz of these)")
    ],
    out: Annotated[Path | None, typer.Option(help="write the recipe there; default: named after the table")] = None,
    text: Annotated[str | None, typer.Option(help="column of the texts; default: found")] = None,
    text_b: Annotated[str | None, typer.Option(help="column of the second text, if a pair has a label")] = None,
    label: Annotated[str | None, typer.Option(help="column of the labels; default: found")] = None,
    dev: Annotated[Path | None, typer.Option(help="table to judge by; default: a tenth of the rows")] = None,
    test: Annotated[Path | None, typer.Option(help="table for the final figures; default: a tenth of the rows")] = None,
    teacher: Annotated[
        str | None, typer.Option(help="the BERT: a directory or an id of the Hugging Face hub; default: by language")
    ] = None,
    force: Annotated[bool, typer.Option(help="replace a recipe that is there")] = False,
) -> None:
    """Look at a table of labelled texts and write a recipe for it.

    Says what is in the table (columns, classes, lengths, language) and what looks like a mistake in it. Read the recipe before
    you run it: each setting has a comment.
    """
    from pocketbert.starter.draft import draft_recipe

    draft = draft_recipe(data, out=out, text=text, text_b=text_b, label=label, dev=dev, test=test, teacher=teacher)
    draft.write(force=force)
    for line in draft.lines():
        console.print(line, markup=False)
    for warning in draft.warnings:
        console.print(f"warning: {warning}", style="yellow", markup=False)
    console.print(
        f"wrote {draft.path}; next: pocketbert compress {draft.path}, then pocketbert export {draft.path}", markup=False
    )


@app.command()
def predict(
    bundle: BundleArgument,
    texts: Annotated[
        list[str] | None, typer.Argument(help="texts to classify; for a bundle of pairs, two for each answer")
    ] = None,
    file: Annotated[
        str | None, typer.Option(help="a text a line, or a table (.csv, .tsv, .jsonl, .parquet); '-': standard input")
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            help="write the table with its answers there: a file of any of these kinds, or a directory of parts"
        ),
    ] = None,
    text: Annotated[str, typer.Option(help="column of the texts in a table")] = "text",
    text_b: Annotated[str, typer.Option(help="column of the second texts, for a bundle of pairs")] = "text_b",
    scores: Annotated[bool, typer.Option(help="print the probability of every label")] = False,
    format: Annotated[
        Format | None, typer.Option(help="default: a table on a terminal, one JSON object a line elsewhere")
    ] = None,
    domain: Annotated[str | None, typer.Option(help="whose model answers, if the bundle has several")] = None,
    precision: Annotated[str | None, typer.Option(help="such as int8, fp32 or tensorrt; default: the bundle's")] = None,
    device: Annotated[Device, typer.Option(help="where the model runs")] = Device.cpu,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads (of each worker)")] = 1,
    cascade: CascadeOption = None,
    threshold: ThresholdOption = None,
    unsure_below: UnsureOption = None,
    columns: ColumnsOption = None,
    prefix: PrefixOption = "",
    max_bad: MaxBadOption = 1_000,
    workers: WorkersOption = None,
    ray: RayOption = None,
    part_rows: PartRowsOption = 20_000,
    force: ForceOption = False,
    separator: SeparatorOption = None,
    quoting: QuotingOption = None,
    encoding: EncodingOption = None,
) -> None:
    """Classify texts with a bundle: those of the command line, of a file, or a text a line from standard input.

    pocketbert predict artifacts/tickets 'Where is my parcel?'

    pocketbert predict artifacts/tickets --file tickets.csv --out answers.csv

    With --out the table may be of any size, here or behind a URL, and a killed run is carried on by the same command. Two texts of a
    pair are separated by a tab on a line.
    """
    bulk = BulkOptions(
        source=file or "",
        target=out or "",
        text=text,
        text_b=text_b,
        columns=names_of(columns),
        prefix=prefix,
        scores=scores,
        domain=domain,
        model=model_settings(precision, device.value, threads, cascade, threshold, unsure_below),
        separator=separator,
        quoting=quoting,
        encoding=encoding,
        workers=workers,
        ray=ray,
        part_rows=part_rows,
        max_bad=max_bad,
        force=force,
    )
    if out is not None:
        if texts or file in (None, "-"):
            raise UserError("--out: name the table to read with --file, and no other texts")
        if format is not None:
            raise UserError("--format: is for answers that are printed; the name of --out says its kind")
        run_shown(bundle, bulk)
        return
    bulk.refuse_without_output()
    from pocketbert.classifier import Classifier
    from pocketbert.text_input import given_texts, in_batches, texts_of_file, texts_of_stdin

    if texts and file:
        raise UserError(f"--file {file}: give either texts or a file")
    classifier = Classifier.load(
        bundle,
        precision=precision,
        device=device.value,
        threads=threads,
        cascade=cascade,
        threshold=threshold,
        unsure_below=unsure_below,
    )
    pair = classifier.pair
    if texts:
        items: Iterable[tuple[str, str | None]] = given_texts(texts, pair=pair)
    elif file is None or file == "-":
        items = texts_of_stdin(pair=pair)
    else:
        items = texts_of_file(Path(file), text, text_b, pair=pair)
    as_table = format is Format.table or (format is None and sys.stdout.isatty())
    shown: list[Prediction] = []
    for batch in in_batches(items, BATCH):
        seconds = [second for _, second in batch if second is not None] if pair else None
        found = classifier.predict([first for first, _ in batch], seconds, domain=domain)
        if as_table:
            shown.extend(found)
        else:
            for prediction in found:
                typer.echo(json.dumps(prediction.as_dict(scores=scores), ensure_ascii=False))
    if as_table:
        print_table(*_prediction_table(shown, classifier.labels if scores else []))


@app.command(name="doctor")
def doctor_command(as_json: JsonOption = False) -> None:
    """Show what works on this machine and with what is installed, what is missing for which feature, and how to get it."""
    from pocketbert.diagnosis import doctor

    found = doctor()
    typer.echo(json.dumps(found.as_dict(), ensure_ascii=False, indent=2) if as_json else str(found))


def _prediction_table(predictions: list[Prediction], labels: list[str]) -> tuple[list[str], list[list[str]]]:
    """The header and the rows; a column for the probability of each of `labels`."""
    extra = [name for name in ("model", "unsure") if any(getattr(one, name) is not None for one in predictions)]
    header = ["Text", "Label", "Score", *map(str.capitalize, extra), *labels]
    rows = [
        [
            *(one.shown, one.label, f"{one.score:.4f}"),
            *(_cell(getattr(one, name)) for name in extra),
            *(f"{one.scores[label]:.4f}" for label in labels),
        ]
        for one in predictions
    ]
    return header, rows


def _cell(value: str | bool | None) -> str:
    return value if isinstance(value, str) else "yes" if value else ""
