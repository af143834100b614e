"""Tables of labelled texts from the embedded corpus, files or the hub. Their rows are checked and split."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from compress.data.assets import SENTIMENT_FILES, sentiment_corpus
from compress.data.files import why_no_file
from compress.data.hub import HubRepository, load_hub_dataset
from compress.data.table_files import Table, check_columns, read_file, wanted_columns
from compress.recipe.sections import TextOptions
from compress.runtime.errors import UserError

MIN_VALENCE = 0.2  # on the scale −4 … 4; below it, 20 raters do not agree on the sign
MARKS_END = 0x1F000  # beyond it, only a few rare scripts and the variation selectors have marks


@dataclass(frozen=True)
class Row:
    """A text or a pair of texts, as in the table."""

    text: str
    text_b: str | None
    label: str
    domain: str | None
    group: str  # rows with the same text or of the same document; a group is never divided between splits
    place: str  # where it stands in its table, such as "line 7"

    @property
    def texts(self) -> list[str]:
        """The one or two texts."""
        return [text for text in (self.text, self.text_b) if text is not None]


def read_splits(options: TextOptions) -> dict[str, list[Row]]:
    """The rows of the tables that there are, by split: train, and dev and test if they have tables of their own.

    :raises UserError: a file is missing or is not what its kind allows, a column is missing, the table is empty, a text or
        label is missing or of a wrong kind, or a domain is unknown. The message names the file and the line.
    """
    if options.source == "embedded":
        splits = {"train": _sentiment_rows()}
    elif options.source == "files":
        splits = {
            name: read_table(path, options, name)
            for name in ("train", "dev", "test")
            if (path := getattr(options, name, None))
        }
    else:
        splits = _read_hub(options)
    if options.only_domains:
        splits = {
            name: _of_domains(rows, options.only_domains, f"{options.section}.only_domains: {name}")
            for name, rows in splits.items()
        }
    return splits


def normalise(text: str) -> str:
    """The words of a text in lower case. Texts that differ only in case, spacing or punctuation become equal."""
    return " ".join(_word(ascii=text.isascii()).findall(text.lower())) or text


@cache
def _word(*, ascii: bool) -> re.Pattern[str]:
    """A word with the marks on its letters, which a plain pattern leaves out: without them Thai ข้าว (rice) and ข่าว (news) are one word."""
    if ascii:
        return re.compile(r"\w+")
    marks = "".join(chr(code) for code in range(0x300, MARKS_END) if unicodedata.category(chr(code)).startswith("M"))
    return re.compile(rf"\w[\w{marks}]*")


def _of_domains(rows: list[Row], domains: list[str], place: str) -> list[Row]:
    there = {str(row.domain) for row in rows}
    if unknown := sorted(set(domains) - there):
        raise UserError(f"{place} has no domain {unknown[0]!r}; it has {', '.join(sorted(there))}")
    return [row for row in rows if row.domain in domains]


def _sentiment_rows() -> list[Row]:
    """The rows of the embedded corpus. The label is the sign of the mean valence.

    Repeated texts are merged, and texts with a valence near 0 are left out. The sentences of one product review or one
    editorial are a group, so that no document is divided between splits.
    """
    directory = sentiment_corpus()
    merged: dict[str, tuple[str, str, str, list[float]]] = {}
    for domain, file in SENTIMENT_FILES.items():
        for line in (directory / file).read_text(encoding="utf-8").rstrip("\n").split("\n"):
            number, valence, text = line.split("\t", 2)
            document = f"{domain}/{number.split('_')[0]}"
            merged.setdefault(normalise(text), (domain, document, text, []))[3].append(float(valence))
    rows: list[Row] = []
    for domain, document, text, valences in merged.values():
        mean = sum(valences) / len(valences)
        if abs(mean) >= MIN_VALENCE:
            label = "positive" if mean > 0 else "negative"
            rows.append(Row(text, None, label, domain, document, f"row {len(rows) + 1}"))
    return rows


def read_table(path: Path, options: TextOptions, key: str, *, labelled: bool = True) -> list[Row]:
    """The rows of a table file.

    :param key: the setting that names the file, for messages.
    :param labelled: whether to read labels and domains too, and not only texts.
    :raises UserError: as `read_splits`.
    """
    if not path.is_file():
        raise UserError(f"{options.section}.{key}: {path}: {why_no_file(path)}")
    return _rows(read_file(path, options, wanted_columns(options, labelled=labelled)), options)


def _read_hub(options: TextOptions) -> dict[str, list[Row]]:
    import datasets

    repository = HubRepository("dataset", str(options.hub), options.revision, f"{options.section}.hub")
    loaded = load_hub_dataset(repository, options.hub_config)
    if "train" not in loaded:
        raise UserError(f"{options.section}.hub: {options.hub}: has no split named train, only {', '.join(loaded)}")
    splits = {}
    wanted = wanted_columns(options, labelled=True)
    # Test splits of the hub often have no labels (−1). Such a split is left out.
    for name, hub_name in {"train": "train", "dev": "validation", "test": "test"}.items():
        if hub_name not in loaded:
            continue
        split, place = loaded[hub_name], f"{options.hub}/{hub_name}"
        check_columns(split.column_names, wanted, options, place)
        columns = {setting: split.with_format(None)[column][:] for setting, column in wanted.items()}
        feature = split.features[options.label]
        if isinstance(feature, datasets.ClassLabel):
            if all(label is not None and label < 0 for label in columns["label"]):
                continue
            # A single −1 is a missing label.
            columns["label"] = [
                None if label is None or label < 0 else feature.int2str(label) for label in columns["label"]
            ]
        splits[name] = _rows(Table(place, "row", range(len(split)), columns), options)
    return splits


def _rows(table: Table, options: TextOptions) -> list[Row]:
    """The rows of a table, after a check of its cells."""
    if not table.numbers:
        raise UserError(f"{table.place}: the table has no rows")
    count = len(table.numbers)
    texts = _texts(table, "text", options.text)
    texts_b = [None] * count if options.text_b is None else _texts(table, "text_b", options.text_b)
    labels = _names(table, "label", options.label) if "label" in table.columns else [""] * count
    domains = _names(table, "domain", str(options.domain)) if "domain" in table.columns else [None] * count
    return [
        Row(
            text=a,
            text_b=b,
            label=labels[row],
            domain=domains[row],
            group=normalise(a) if b is None else f"{normalise(a)}\t{normalise(b)}",
            place=table.at(row, "text"),
        )
        for row, (a, b) in enumerate(zip(texts, texts_b, strict=True))
    ]


def _texts(table: Table, setting: str, column: str) -> list[str]:
    """The cells of a column of texts."""
    cells = table.columns[setting]
    for row, cell in enumerate(cells):
        if _is_empty(cell):
            raise _empty(table, row, setting, column)
        if not isinstance(cell, str):
            raise UserError(
                f"{table.place}: {table.at(row, setting)}: column {column!r} holds {_short(cell)}, not a text"
            )
    return cells


def _names(table: Table, setting: str, column: str) -> list[str]:
    """The cells of a column of labels or domains as names. Numbers and booleans become their text."""
    cells = table.columns[setting]
    for row, cell in enumerate(cells):
        if _is_empty(cell):
            raise _empty(table, row, setting, column)
        if isinstance(cell, (list, dict)):
            kind = "a list" if isinstance(cell, list) else "an object"
            raise UserError(
                f"{table.place}: {table.at(row, setting)}: column {column!r} holds {kind}, {_short(cell)}; a text has one {setting} here: "
                "keep the most important one, or make a table for each label that says yes or no"
            )
        if isinstance(cell, bytes):
            raise UserError(
                f"{table.place}: {table.at(row, setting)}: column {column!r} holds {_short(cell)}, bytes; save it as a column of strings"
            )
    return [str(cell) for cell in cells]


def _is_empty(cell: Any) -> bool:
    return cell is None or cell != cell or (isinstance(cell, str) and not cell.strip())  # NaN is unlike itself


def _empty(table: Table, row: int, setting: str, column: str) -> UserError:
    """What to say of the first empty cell of a column."""
    more = sum(map(_is_empty, table.columns[setting][row + 1 :]))
    also = f", and so it is in {more:,} more {'row' if more == 1 else 'rows'}; remove these rows or fill them in"
    return UserError(
        f"{table.place}: {table.at(row, setting)}: column {column!r} is empty{also if more else '; remove the row or fill it in'}"
    )


def _short(cell: Any) -> str:
    shown = repr(cell)
    return shown if len(shown) <= 40 else f"{shown[:40]}…"
