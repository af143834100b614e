"""How a table is to be read: its encoding, separator and quotation marks. A person sees what was taken and can correct it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from compress.data.table_files import SEPARATORS, USUAL_SEPARATORS, column_names, is_parquet, is_table, read_file
from compress.data.text_files import likely_encoding, read_bytes
from compress.recipe.sections import TextOptions
from compress.runtime.errors import UserError


@dataclass(frozen=True)
class Layout:
    """A table that has been read."""

    settings: dict[
        str, Any
    ]  # of the section `data`, where its defaults do not read the table: encoding, separator, quoting
    columns: dict[str, list[Any]]  # the cells, by the name of the column, in the order of the file
    doubts: list[str]  # what a person should check of that, a line each

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))


def read_layout(path: Path, wanted: Mapping[str, str] | None = None) -> Layout:
    """Read a table whose layout is not known.

    :param wanted: columns that it must have, by the command's option that names them. None: any two.
    :raises UserError: the file is missing or no table, or no layout reads it. Then the message is that of the usual layout.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file")
    if path.is_dir():
        tables = sorted(file.name for file in path.iterdir() if is_table(file))
        there = f"; it holds {', '.join(tables[:5])}" if tables else ""
        raise UserError(f"{path}: is a directory; name the table in it{there}")
    if not is_table(path):
        raise UserError(f"{path}: unknown kind of table; use .csv, .tsv, .jsonl or .parquet (text kinds may be .gz)")
    delimited = next((end for end in SEPARATORS if end in (suffix.lower() for suffix in path.suffixes)), None)
    if is_parquet(path):
        return _read(path, {}, wanted)
    encoding = likely_encoding(read_bytes(path))
    base: dict[str, Any] = {} if encoding is None else {"encoding": encoding}
    doubts = [] if encoding is None else [f"{path} is not UTF-8 and was read as {encoding}: are all letters right?"]
    if delimited is None:
        return replace(_read(path, base, wanted), doubts=doubts)
    separator = SEPARATORS[delimited]
    first: UserError | None = None
    for other, quoting in product((separator, *USUAL_SEPARATORS), (None, delimited != ".csv")):
        settings = base | ({} if other == separator else {"separator": other})
        settings |= {} if quoting is None else {"quoting": quoting}
        try:
            read = _read(path, settings, wanted)
        except UserError as error:
            # A table of one column is read by every separator that does not occur, so its message says least.
            if first is None or (isinstance(first, _ColumnsError) and not isinstance(error, _ColumnsError)):
                first = error
        else:
            if first is not None and not isinstance(first, _ColumnsError):
                taken = ", ".join(f"{key} = {settings[key]!r}" for key in ("separator", "quoting") if key in settings)
                doubts.append(f"{path} was read with {taken}, because otherwise: {first}")
            return replace(read, doubts=doubts)
    assert first is not None, "some layout was tried"
    raise first


class _ColumnsError(UserError):
    """The table has one column only, or not those that are wanted, as it has with a wrong separator."""


def _read(path: Path, settings: dict[str, Any], wanted: Mapping[str, str] | None) -> Layout:
    options = TextOptions(train=path, **settings)
    names = column_names(path, options)
    if names and names[0].startswith("sep="):
        raise UserError(f"{path}: line 1 is for Excel only; remove it")
    if not names:
        raise UserError(f"{path}: has no rows and columns")
    for option, column in (wanted or {}).items():
        if column not in names:
            there = ", ".join(repr(name[:60]) for name in names)
            raise _ColumnsError(f"{path}: no column {column!r}; choose one of {there} with {option}")
    if wanted is None and len(names) < 2:
        raise _ColumnsError(
            f"{path}: has one column only, {names[0][:60]!r}; a task needs a column of texts and one of labels"
        )
    if twice := next((name for name in names if name and names.count(name) > 1), None):
        raise UserError(f"{path}: two columns are called {twice!r}; give one of them another name")
    named = [name for name in names if name]  # pandas writes its index under an empty name
    # Each name is also that of its setting here, since all columns are read.
    columns = read_file(path, options, {name: name for name in named}).columns
    if not next(iter(columns.values())):
        raise UserError(f"{path}: the table has no rows")
    return Layout(settings, columns, [])
