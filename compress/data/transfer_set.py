"""The texts of a transfer set on disk: `texts.jsonl`, on each line the JSON list of the one or two texts of an example."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from compress.data.corpus import UNLABELLED, Split

FILE = "texts.jsonl"


def write_examples(examples: Iterable[Sequence[str]], directory: Path) -> None:
    """Write examples of one or two texts."""
    with (directory / FILE).open("w", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(texts, ensure_ascii=False)}\n" for texts in examples)


def save_transfer_set(texts: Split, directory: Path) -> None:
    """Write the texts or pairs of a split, without their labels."""
    parts = (texts.texts,) if texts.texts_b is None else (texts.texts, texts.texts_b)
    write_examples(zip(*parts, strict=True), directory)


def load_transfer_set(directory: Path) -> Split:
    """The texts or pairs in a directory, without labels."""
    with (directory / FILE).open(encoding="utf-8") as file:
        examples = [json.loads(line) for line in file]
    seconds = [example[1] for example in examples] if examples and len(examples[0]) > 1 else None
    return Split([example[0] for example in examples], seconds, [UNLABELLED] * len(examples), None)
