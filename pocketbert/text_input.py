"""The texts that `pocketbert predict` is asked about: from the command line, standard input or a file."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TextIO

from compress.console import console
from compress.data.files import why_no_file
from compress.data.table_files import is_table
from compress.data.tables import read_table
from compress.recipe.sections import TextOptions
from compress.runtime.errors import UserError
from pocketbert.starter.layout import read_layout

Item = tuple[str, str | None]  # a text, and the second one of a pair


def given_texts(texts: list[str], *, pair: bool) -> list[Item]:
    """The texts of the command line. For a bundle of pairs, two make a pair.

    :raises UserError: an odd number of texts for pairs, or one that is not UTF-8.
    """
    for number, text in enumerate(texts, 1):
        if not _is_whole(text):
            raise UserError(f"TEXTS: text {number} is not UTF-8; give it in a file with --file, saved as UTF-8")
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
        raise UserError(f"--file: {path}: {why_no_file(path)}")
    if not is_table(path):
        with path.open(encoding="utf-8-sig") as lines:
            yield from _lines(lines, str(path), pair=pair)
        return
    wanted = {"--text": column} | ({"--text-b": column_b} if pair else {})
    layout = read_layout(path, wanted)  # there is no recipe here that says how to read it
    for doubt in layout.doubts:
        console.print(f"warning: {doubt}", style="yellow", markup=False)
    options = TextOptions(train=path, text=column, text_b=column_b if pair else None, **layout.settings)
    for row in read_table(path, options, "train", labelled=False):
        yield row.text, row.text_b


def in_batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The items in lists of at most `size`, so that a file of any size fits into memory."""
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch


def _is_whole(text: str) -> bool:
    """Whether a text has no halves of characters. Python makes them of bytes that are not in the terminal's encoding."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _lines(lines: TextIO, place: str, *, pair: bool) -> Iterator[Item]:
    try:
        for number, line in enumerate(lines, 1):
            line = line.rstrip("\r\n")
            if number == 1:
                line = line.removeprefix("\ufeff")  # a byte-order mark; Python leaves it on standard input
            if not _is_whole(line):
                raise UserError(f"{place}: line {number}: is not UTF-8; save it as UTF-8")
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
