"""The file of augmented texts: how it is written and how it is read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from compress.data.corpus import UNLABELLED, Split
from compress.training.progress import with_progress

TEXTS = "texts.jsonl"
T = TypeVar("T")


def write_lines(directory: Path, lines: Iterable[dict[str, Any]], total: int, name: str) -> None:
    """Write `texts.jsonl`, one JSON object a line, and show the progress.

    :param total: the number of lines.
    :param name: shown beside the progress.
    """
    with (directory / TEXTS).open("w", encoding="utf-8") as file:
        for line in with_progress(lines, total, name):
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def read_lines(directory: Path) -> list[dict[str, Any]]:
    """The objects that `write_lines` wrote."""
    with (directory / TEXTS).open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def load_augmented(directory: Path, train: Split) -> Split:
    """The augmented texts. They have no labels: every label is −1.

    :param train: the original texts. An augmented text has the domain of its original. If any text was made from a source
        text, no text gets a domain.
    """
    lines = read_lines(directory)
    texts_b = [line["text_b"] for line in lines] if lines and lines[0]["text_b"] is not None else None
    known = train.domains is not None and not any(line.get("source") for line in lines)
    domains = [train.domains[line["row"]] for line in lines] if train.domains is not None and known else None
    return Split([line["text"] for line in lines], texts_b, [UNLABELLED] * len(lines), domains)
