"""The texts that `pocketbert predict` is asked about: from the command line, standard input or a file."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TextIO

from compress.data.table_files import column_names, is_table
from compress.data.tables import read_table
from compress.recipe.sections import TextOptions
from compress.runtime.errors import UserError

Item = tuple[str, str | None]  # a text, and the second one of a pair


def given_texts(texts: list[str], *, pair: bool) -> list[Item]:
    """The texts of the command line. For a bundle of pairs, two make a pair.

    :raises UserError: an odd number of texts for pairs.
    """
    if not pair:
        return [(text, None) for text in texts]
    if len(texts) % 2:
        raise UserError(f"TEXTS: {len(texts)} texts, and this bundle classifies pairs: give two for each answer")
    return list(zip(texts[::2], texts[1::2], strict=True))


def texts_of_stdin(*, pair: bool) -> Iterator[Item]:
    """A text a line, from standard input.

    :raises UserError: there is none, a line is blank, or it holds no pair.
    """
    if sys.stdin.isatty():
        raise UserError("TEXTS: give texts, a file with --file, or pipe a text a line into the command")
    return _lines(sys.stdin, "standard input", pair=pair)


def texts_of_file(path: Path, column: str, column_b: str, *, pair: bool) -> Iterator[Item]:
    """The texts of a table (.csv, .tsv, .jsonl, .parquet), or of a text file with a text a line.

    :raises UserError: the file cannot be read, or has not the column.
    """
    if not path.is_file():
        raise UserError(f"--file: {path}: {'is a directory' if path.is_dir() else 'no such file'}")
    if not is_table(path):
        with path.open(encoding="utf-8-sig") as lines:
            yield from _lines(lines, str(path), pair=pair)
        return
    options = TextOptions(train=path, text=column, text_b=column_b if pair else None)
    names = column_names(path, options)
    for option, wanted in (("--text", column), *([("--text-b", column_b)] if pair else [])):
        if wanted not in names:
            raise UserError(f"{path}: no column {wanted!r}; choose one of {', '.join(map(repr, names))} with {option}")
    for row in read_table(path, options, "train", labelled=False):
        yield row.text, row.text_b


def in_batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The items in lists of at most `size`, so that a file of any size fits into memory."""
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch


def _lines(lines: TextIO, place: str, *, pair: bool) -> Iterator[Item]:
    try:
        for number, line in enumerate(lines, 1):
            line = line.rstrip("\r\n")
            if not line.strip():
                raise UserError(f"{place}: line {number}: blank; remove it, since each line gets an answer")
            if not pair:
                yield line, None
                continue
            text, tab, text_b = line.partition("\t")
            if not tab:
                raise UserError(
                    f"{place}: line {number}: this bundle classifies pairs: write both texts with a tab between them"
                )
            yield text, text_b
    except UnicodeDecodeError as error:
        raise UserError(f"{place}: is not UTF-8 ({error.reason}); save it as UTF-8") from None
