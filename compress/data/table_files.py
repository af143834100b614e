"""The columns of a table file, as the file has them: .csv, .tsv, .jsonl and .parquet."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path, PurePath
from typing import Any

from compress.data.delimited import Record, read_records
from compress.data.labels import seen
from compress.data.text_files import read_text
from compress.recipe.sections import TextOptions
from compress.recipe.sections.data import JSON_LINES
from compress.runtime.errors import UserError

SEPARATORS = {".csv": ",", ".tsv": "\t"}
USUAL_SEPARATORS = (",", ";", "\t", "|")  # those that are tried
MOST_NAMES, MOST_CHARACTERS = 20, 40  # of a table's columns, in a message
NEAR = 0.75  # likeness of two names from which on one is a slip of the other


@dataclass(frozen=True)
class Table:
    """The columns of a table that are asked for. All have the same length."""

    place: str  # the file, or the split of a hub dataset
    unit: str  # what a place in it is called: "line" of a text file or "row"
    numbers: Sequence[int]  # the line or row of each row
    columns: dict[str, list[Any]]  # the cells, by the setting that names the column (text, text_b, label or domain)
    # How many lines below its row's first line a cell begins, if it does.
    below: dict[tuple[int, str], int] = field(default_factory=dict)

    def at(self, row: int, setting: str) -> str:
        """Where a cell stands, without the file."""
        return f"{self.unit} {self.numbers[row] + self.below.get((row, setting), 0)}"


def wanted_columns(options: TextOptions, *, labelled: bool) -> dict[str, str]:
    """The names of the columns to read, by the setting that names them."""
    named = {"text": options.text, "text_b": options.text_b}
    if labelled:
        named |= {"label": options.label, "domain": options.domain}
    return {setting: column for setting, column in named.items() if column is not None}


def read_file(path: Path, options: TextOptions, wanted: dict[str, str]) -> Table:
    """The wanted columns of a file.

    :raises UserError: the file is of no kind that is known, cannot be read, or is not what its kind allows; or it has not
        one of the columns.
    """
    suffix = table_kind(path)
    if suffix in SEPARATORS:
        return _read_delimited(path, suffix, options, wanted)
    if suffix in JSON_LINES:
        return _read_json_lines(path, options, wanted)
    if suffix == ".parquet":
        return _read_parquet(path, options, wanted)
    raise UserError(
        f"{path}: unknown kind of table {suffix!r}; use .tsv, .csv, .jsonl or .parquet (text kinds may be .gz)"
    )


def is_table(path: Path) -> bool:
    """Whether the name of a file is that of a table."""
    return table_kind(path) in (*SEPARATORS, *JSON_LINES, ".parquet")


def is_parquet(path: Path) -> bool:
    """Whether the name of a file is that of a Parquet file, which holds no text."""
    return table_kind(path) == ".parquet"


def column_names(path: Path, options: TextOptions) -> list[str]:
    """The names of all columns of a table, in the order of the file; none of a .jsonl file without objects.

    :raises UserError: as `read_file`, or another table is empty.
    """
    suffix = table_kind(path)
    if suffix in SEPARATORS:
        separator, quoting = _delimiters(suffix, options)
        records = read_records(
            read_text(path, options), separator, str(path), quoting=quoting, setting=f"{options.section}.quoting"
        )
        if (header := next(records, None)) is None:
            raise UserError(f"{path}: the table is empty")
        return header.fields
    if suffix == ".parquet":
        from pyarrow import parquet

        try:
            return list(parquet.read_schema(path).names)
        except (ValueError, OSError) as error:
            raise UserError(f"{path}: cannot be read as .parquet ({str(error).splitlines()[0]})") from None
    names: dict[str, None] = {}
    for _, row in _json_rows(path, options):
        names.update(dict.fromkeys(row))
    return list(names)


def table_kind(path: PurePath) -> str:
    """The end of a file's name that says what it is, without the `.gz` of a compressed file; "" if there is none."""
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    return suffixes[-1] if suffixes else ""


def _delimiters(suffix: str, options: TextOptions) -> tuple[str, bool]:
    """What separates fields, and whether quotation marks enclose them."""
    return options.separator or SEPARATORS[suffix], options.quoting if options.quoting is not None else suffix == ".csv"


def check_columns(
    names: Sequence[str], wanted: dict[str, str], options: TextOptions, place: str, hint: str = ""
) -> None:
    """See that the table has each wanted column once.

    :param hint: what to say if it has none of them.
    :raises UserError: it has not. The message has the names that are there, and the one that may be meant.
    """
    for setting, column in wanted.items():
        if column in names:
            if list(names).count(column) > 1:
                raise UserError(f"{place}: two columns are called {column!r}; give one of them another name")
            continue
        shown = ", ".join(map(_shown, names[:MOST_NAMES])) + (", …" if len(names) > MOST_NAMES else "")
        like = next((name for name in names if seen(name) == seen(column)), None)
        others = [name for name in names if name not in wanted.values()]
        is_table_of_task = len(others) < len(names)  # some of the wanted columns are there
        if like is None and is_table_of_task:
            like = next(iter(get_close_matches(column, others, 1, NEAR)), None)
        cure = hint
        if like is not None:
            cure = f"; set {options.section}.{setting} = {json.dumps(like, ensure_ascii=not like.isprintable())}"
        elif is_table_of_task:
            cure = f"; if one of them is meant, name it in {options.section}.{setting}"
        raise UserError(f"{place}: no column {column!r} ({options.section}.{setting}); it has {shown}{cure}")


def _shown(name: str) -> str:
    return repr(name if len(name) <= MOST_CHARACTERS else f"{name[:MOST_CHARACTERS]}…")


def _read_delimited(path: Path, suffix: str, options: TextOptions, wanted: dict[str, str]) -> Table:
    separator, quoting = _delimiters(suffix, options)
    text = read_text(path, options)
    records = read_records(text, separator, str(path), quoting=quoting, setting=f"{options.section}.quoting")
    header = next(records, None)
    if header is None:
        raise UserError(f"{path}: the table is empty")
    hint = _header_hint(header.raw, separator, wanted, options.section, quoting=quoting)
    check_columns(header.fields, wanted, options, str(path), hint)
    positions = {setting: header.fields.index(column) for setting, column in wanted.items()}
    numbers: list[int] = []
    columns: dict[str, list[Any]] = {setting: [] for setting in wanted}
    over_lines: list[Record] = []
    below: dict[tuple[int, str], int] = {}
    for record in records:
        if len(record.fields) != len(header.fields) or not record.raw:
            setting = f"{options.section}.quoting"
            fault = wrong_length(record, len(header.fields), separator, setting, quoting=quoting)
            raise UserError(f"{path}: line {record.line}: {fault}")
        if record.fields == header.fields:
            raise UserError(f"{path}: line {record.line}: the names of the columns once more; remove the line")
        for setting, position in positions.items():
            columns[setting].append(record.fields[position])
            if lines := "".join(record.fields[:position]).count("\n"):
                below[len(numbers), setting] = lines
        numbers.append(record.line)
        if "\n" in record.raw:
            over_lines.append(record)
    if over_lines and "label" in wanted:
        _check_swallowed(over_lines, set(columns["label"]), positions["label"], len(header.fields), separator, path)
    return Table(str(path), "line", numbers, columns, below)


def _header_hint(header: str, separator: str, wanted: dict[str, str], section: str, *, quoting: bool) -> str:
    """What to do about a header line that has none of the wanted columns."""
    if found := re.fullmatch(r"sep=(.)", header):
        return f"; line 1 is for Excel only: remove it, and set {section}.separator = {json.dumps(found[1])}"
    if not header.strip():
        return "; line 1 is blank, and must name the columns"
    names = header.replace('"', "")
    for other in USUAL_SEPARATORS:
        if set(wanted.values()) <= {name.strip() for name in names.split(other)} and other != separator:
            return f"; its separator is {other!r}: set {section}.separator = {json.dumps(other)}"
    if not quoting and set(wanted.values()) <= set(names.split(separator)):
        return f"; its fields are quoted: set {section}.quoting = true"
    return f"; is line 1 a header? It must name the columns, which {section}.text and {section}.label then choose"


def wrong_length(record: Record, names: int, separator: str, setting: str, *, quoting: bool) -> str:
    """What is wrong with a record that has not as many fields as there are names in the header.

    :param setting: that changes `quoting`, for the message.
    """
    fields = len(record.fields)
    if not record.raw:
        return "is blank; remove it"
    counted = (
        f"{fields} {'field' if fields == 1 else 'fields'} under {names} column {'name' if names == 1 else 'names'}"
    )
    if fields == names + 1 and not record.fields[-1]:
        return (
            f"{counted}, the last one empty: the row ends in a {separator!r} that the header has not; remove it from the "
            "rows, or add one to the header"
        )
    if fields > names:
        quoted = f"write a text with a {separator!r} in quotation marks"
        cure = quoted if quoting else f"a text must not hold a {separator!r}, unless {setting} = true"
        return f"{counted}; {cure}"
    if not quoting and record.fields[-1].startswith('"'):
        return f"{counted}; if quotation marks enclose texts of several lines, set {setting} = true"
    return f"{counted}; a row must have all of them, and a text of several lines needs quotation marks"


def _check_swallowed(
    records: Iterable[Record], labels: set[str], position: int, names: int, separator: str, path: Path
) -> None:
    """Find a stray quotation mark at the begin of a field that another one, at the end of a field, seems to close.

    The field between them holds the rows in between. RFC 4180 allows such a record. It is refused if each of its lines
    would be a row with a known label by itself, which a text of several lines hardly is.

    :param position: of the label.
    """
    for record in records:
        lines = [line.replace('"', "").removesuffix("\r").split(separator) for line in record.raw.split("\n")]
        if all(len(fields) == names and fields[position] in labels for fields in lines):
            raise UserError(
                f"{path}: line {record.line}: a quoted field holds whole rows, down to line {record.line + len(lines) - 1}; "
                "remove the quotation mark that opens it, or write it twice in a quoted field"
            )


def _read_json_lines(path: Path, options: TextOptions, wanted: dict[str, str]) -> Table:
    numbers: list[int] = []
    columns: dict[str, list[Any]] = {setting: [] for setting in wanted}
    names: dict[str, None] = {}
    for number, row in _json_rows(path, options):
        names.update(dict.fromkeys(row))
        numbers.append(number)
        for setting, column in wanted.items():
            columns[setting].append(row.get(column))
    if not numbers:
        raise UserError(f"{path}: the table is empty")
    check_columns(list(names), wanted, options, str(path))
    return Table(str(path), "line", numbers, columns)


def _json_rows(path: Path, options: TextOptions) -> Iterator[tuple[int, dict[str, Any]]]:
    """The number of each line that is not blank, from 1, and its object."""
    lines = read_text(path, options).split("\n")
    whole = not any(lines[1:])
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield number, json_object(line, f"{path}: line {number}", whole=whole)


def json_object(line: str, place: str, *, whole: bool) -> dict[str, Any]:
    """The object of a line.

    :param whole: whether it is the only line of the file.
    :raises UserError: it is none, has a name twice, or a string with half of a surrogate pair.
    """
    try:
        row = json.loads(line, object_pairs_hook=_unique, parse_constant=lambda constant: None)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: cannot be read as JSON ({_json_fault(error)}){_json_cure(line)}") from None
    if not isinstance(row, dict):
        cure = "write the objects of the list one a line" if whole else 'a line must be an object such as {"text": …}'
        raise UserError(f"{place}: not a JSON object but {_json_kind(row)}; {cure}")
    if "\\u" in line:
        for name, value in row.items():
            if half := re.search("[\ud800-\udfff]", json.dumps([name, value], ensure_ascii=False)):
                raise UserError(f"{place}: column {name!r} holds half of a character (\\u{ord(half[0]):04x}); mend it")
    return row


def _json_fault(error: Exception) -> str:
    """What is wrong with a line, without the words of Python's settings."""
    if isinstance(error, RecursionError):
        return "lists or objects stand in one another too deeply"
    reason = str(error).splitlines()[0]
    return "a number has thousands of digits" if "integer string conversion" in reason else reason


def _json_cure(line: str) -> str:
    """What to do about a line that is no JSON, where that is plain."""
    if line.strip() in ("{", "[", "[{"):
        return "; an object must stand in one line"
    if line.rstrip().endswith(","):
        return "; remove the comma at the end of the line"
    return "; its lines end in a carriage return (CR) alone: save it with LF" if "\r" in line.rstrip("\r") else ""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the name {next(name for name in names if names.count(name) > 1)!r} stands twice")
    return row


def _json_kind(value: Any) -> str:
    return "a list" if isinstance(value, list) else json.dumps(value, ensure_ascii=False)[:MOST_CHARACTERS]


def _read_parquet(path: Path, options: TextOptions, wanted: dict[str, str]) -> Table:
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        check_columns(file.schema_arrow.names, wanted, options, str(path))
        table = file.read(columns=list(wanted.values()))
    except (ValueError, OSError, NotImplementedError) as error:  # pyarrow's errors are of these kinds
        raise UserError(f"{path}: cannot be read as .parquet ({str(error).splitlines()[0]})") from None
    columns = {setting: table.column(column).to_pylist() for setting, column in wanted.items()}
    return Table(str(path), "row", range(1, len(table) + 1), columns)
