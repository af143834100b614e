"""Tables of labelled texts from the embedded corpus, files or the hub. Their rows are checked and split."""

from __future__ import annotations

import csv
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from compress.data.assets import SENTIMENT_FILES, sentiment_corpus
from compress.recipe.sections import TextOptions
from compress.runtime.errors import UserError

if TYPE_CHECKING:
    import pandas

MIN_VALENCE = 0.2  # on the scale −4 … 4; below it, 20 raters do not agree on the sign
DEV, TEST = 0.1, 0.1  # shares of the groups (by hash) that a split of train gets


@dataclass(frozen=True)
class Row:
    """A text or a pair of texts, as in the table."""

    text: str
    text_b: str | None
    label: str
    domain: str | None
    group: str  # rows with the same text or of the same document; a group is never divided between splits

    @property
    def texts(self) -> list[str]:
        """The one or two texts."""
        return [text for text in (self.text, self.text_b) if text is not None]


def read_splits(options: TextOptions) -> dict[str, list[Row]]:
    """The rows of train, dev and, if there is one, test. A split without a table of its own is a part of train.

    :raises UserError: a missing file or column, an empty table, a null text or label, or an unknown domain. The message
        names the file and the row.
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
    if "dev" not in splits:
        parts = _split_by_hash(splits.pop("train"), test="test" not in splits)
        splits = {**parts, **splits}
    return splits


def normalise(text: str) -> str:
    """The words of a text in lower case. Texts that differ only in case, spacing or punctuation become equal."""
    return " ".join(re.findall(r"\w+", text.lower())) or text


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
    rows = []
    for domain, document, text, valences in merged.values():
        mean = sum(valences) / len(valences)
        if abs(mean) >= MIN_VALENCE:
            rows.append(Row(text, None, "positive" if mean > 0 else "negative", domain, document))
    return rows


def _split_by_hash(rows: list[Row], *, test: bool = True) -> dict[str, list[Row]]:
    """Split by a hash of the group. So the split of a row does not depend on the order or number of the rows."""
    splits: dict[str, list[Row]] = {name: [] for name in ("train", "dev", "test") if test or name != "test"}
    for row in rows:
        position = int.from_bytes(hashlib.sha256(row.group.encode()).digest()[:4], "big") / 2**32
        name = "dev" if position < DEV else "test" if test and position < DEV + TEST else "train"
        splits[name].append(row)
    return splits


def read_table(path: Path, options: TextOptions, key: str, *, labelled: bool = True) -> list[Row]:
    """The rows of a table file.

    :param key: the setting that names the file, for messages.
    :param labelled: whether to read labels and domains too, and not only texts.
    :raises UserError: as `read_splits`.
    """
    import pandas

    if not path.is_file():
        raise UserError(f"{options.section}.{key}: {path}: no such file")
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    suffix = suffixes[-1] if suffixes else ""
    try:
        if suffix in (".tsv", ".csv"):
            quoting = options.quoting if options.quoting is not None else suffix == ".csv"
            table = pandas.read_csv(
                path,
                sep="\t" if suffix == ".tsv" else ",",
                dtype=str,
                keep_default_na=False,  # "NA" and "null" are texts; only an empty cell is a missing value
                na_values=[""],
                quoting=csv.QUOTE_MINIMAL if quoting else csv.QUOTE_NONE,
                encoding="utf-8",
                skip_blank_lines=False,
            )
        elif suffix in (".jsonl", ".ndjson"):
            table = pandas.read_json(path, lines=True, dtype=False, convert_dates=False, encoding="utf-8")
        elif suffix == ".parquet":
            table = pandas.read_parquet(path)
        else:
            raise UserError(
                f"{path}: unknown kind of table {suffix!r}; use .tsv, .csv, .jsonl or .parquet (text kinds may be .gz)"
            )
    except pandas.errors.EmptyDataError:
        raise UserError(f"{path}: the table is empty") from None
    except (ValueError, OSError, EOFError) as error:  # the parser errors of pandas and pyarrow are ValueErrors
        raise UserError(f"{path}: cannot be read as {suffix} ({str(error).splitlines()[0]})") from None
    # The line number of the first row: .tsv and .csv have a header line, JSON lines have none.
    offset = {".tsv": 2, ".csv": 2}.get(suffix, 1)
    unit = "row" if suffix == ".parquet" else "line"
    return _rows(table, options, str(path), unit, offset, labelled=labelled)


def _read_hub(options: TextOptions) -> dict[str, list[Row]]:
    import datasets

    try:
        loaded = datasets.load_dataset(options.hub, options.hub_config)
    except Exception as error:  # the client of the hub raises many unrelated types
        raise UserError(
            f"{options.section}.hub: {options.hub}: cannot be loaded ({str(error).splitlines()[0]})"
        ) from None
    if "train" not in loaded:
        raise UserError(f"{options.section}.hub: {options.hub}: has no split named train, only {', '.join(loaded)}")
    splits = {}
    # Test splits of the hub often have no labels (−1). Such a split is left out.
    for name, hub_name in {"train": "train", "dev": "validation", "test": "test"}.items():
        if hub_name not in loaded:
            continue
        split = loaded[hub_name]
        feature = split.features.get(options.label)
        table = split.to_pandas()
        if isinstance(feature, datasets.ClassLabel):
            if (table[options.label] < 0).all():
                continue
            table[options.label] = [feature.int2str(int(value)) for value in table[options.label]]
        splits[name] = _rows(table, options, f"{options.hub}/{hub_name}", "row", 0)
    return splits


def _rows(
    table: pandas.DataFrame, options: TextOptions, place: str, unit: str, offset: int, *, labelled: bool = True
) -> list[Row]:
    """The rows of a table, after a check of its columns and cells.

    :param offset: the line number of the first row in the file, for messages.
    """
    wanted = {"text": options.text, "text_b": options.text_b, "label": options.label, "domain": options.domain}
    if not labelled:
        del wanted["label"], wanted["domain"]
    columns: dict[str, list[object]] = {}
    for key, column in wanted.items():
        if column is None:
            continue
        if column not in table.columns:
            raise UserError(
                f"{place}: no column {column!r} ({options.section}.{key}); it has {', '.join(map(str, table.columns))}"
            )
        cells = table[column]
        if cells.isna().any():
            row = int(cells.isna().to_numpy().argmax()) + offset
            raise UserError(f"{place}: {unit} {row}: column {column!r} is empty (null); remove the row or fill it in")
        columns[key] = cells.tolist()
    if not len(table):
        raise UserError(f"{place}: the table has no rows")
    texts = _strings(columns["text"], place, unit, offset, options.text)
    texts_b = (
        _strings(columns["text_b"], place, unit, offset, str(options.text_b))
        if "text_b" in columns
        else [None] * len(texts)
    )
    domains = map(str, columns["domain"]) if "domain" in columns else [None] * len(texts)
    labels = columns.get("label", [""] * len(texts))
    return [
        Row(a, b, str(label), domain, normalise(a) if b is None else f"{normalise(a)}\t{normalise(b)}")
        for a, b, label, domain in zip(texts, texts_b, labels, domains, strict=True)
    ]


def _strings(cells: list[object], place: str, unit: str, offset: int, column: str) -> list[str]:
    for number, cell in enumerate(cells):
        if not isinstance(cell, str) or not cell.strip():
            raise UserError(f"{place}: {unit} {number + offset}: column {column!r} holds {cell!r}, not a text")
    return cells  # type: ignore[return-value]
