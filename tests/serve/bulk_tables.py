"""Tables for bulk jobs: written, read, and what the answers must be."""

from __future__ import annotations

import csv
import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

from serve.bulk.job import State, run_bulk
from serve.bulk.options import BulkOptions
from serve.predictor import Predictor
from serve.settings import Settings

ROWS = 1_300  # more than two chunks


def cells(count: int) -> list[dict[str, str]]:
    """Rows whose texts hold all that needs quotation marks in a CSV file."""
    words = ["good", "bad", "the, film", 'a "very"', "is", "was\nvery"]
    drawn = random.Random(0)
    texts = (" ".join(drawn.choices(words, k=drawn.randint(1, 9))) for _ in range(count))
    return [{"id": str(number), "text": text, "note": f"é{number}"} for number, text in enumerate(texts)]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write a table of the kind that the name says."""
    if path.suffix == ".parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=400)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a table, with scores as numbers."""
    if path.suffix == ".parquet":
        from pyarrow import parquet

        return parquet.read_table(path).to_pylist()
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if ".jsonl" in path.name:
        return [json.loads(line) for line in data.decode().splitlines()]
    rows = csv.DictReader(data.decode().splitlines(keepends=True), delimiter="\t" if ".tsv" in path.name else ",")
    return [row | {"score": float(row["score"])} for row in rows]


def answers(bundle: Path, rows: list[dict[str, str]]) -> list[dict[str, Any]]:
    """What the output must be, from the predictor asked text by text."""
    predictor = Predictor(Settings.model_construct(bundle=bundle))
    found = []
    for row in rows:
        answer = predictor.classify(predictor.parse(json.dumps({"text": row["text"]}).encode()))
        found.append(row | {"label": answer.label, "score": pytest.approx(answer.score, abs=2e-6)})
    return found


def bulk(bundle: Path, source: Path, target: Path, **options: Any) -> State:
    options = {"workers": 1, "part_rows": 600} | options
    return run_bulk(bundle, BulkOptions(str(source), str(target), **options))
