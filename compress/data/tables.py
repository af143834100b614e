"""Tables of labelled texts: rows from the embedded corpus, files or the hub, checked, in splits that share no text."""

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

MIN_VALENCE = 0.2  # of the scale −4 … 4: below it 20 raters do not agree on a sign
DEV, TEST = 0.1, 0.1  # shares of the texts (by hash) that a carved split takes


@dataclass(frozen=True)
class Row:
    """A text or a pair of texts, as a table has it."""

    text: str
    text_b: str | None
    label: str
    domain: str | None
    group: str  # rows of one group (the same text, the same document) stay on one side of a split

    @property
    def texts(self) -> list[str]:
        """The one or two texts."""
        return [text for text in (self.text, self.text_b) if text is not None]


def read_splits(options: TextOptions) -> dict[str, list[Row]]:
    """The rows of train, dev and, where there is one, test, each as the files have it or carved out of train.

    :raises UserError: a missing file or column, an empty table, a null text or label, an unknown domain; the message names
        the file and the row.
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
        carved = _carve(splits.pop("train"), test="test" not in splits)
        splits = {**carved, **splits}
    return splits


def normalise(text: str) -> str:
    """Lower-case words only: two texts that differ in case, spacing or punctuation alone are the same text."""
    return " ".join(re.findall(r"\w+", text.lower())) or text


def _of_domains(rows: list[Row], domains: list[str], place: str) -> list[Row]:
    there = {str(row.domain) for row in rows}
    if unknown := sorted(set(domains) - there):
        raise UserError(f"{place} has no domain {unknown[0]!r}; it has {', '.join(sorted(there))}")
    return [row for row in rows if row.domain in domains]


def _sentiment_rows() -> list[Row]:
    """The embedded corpus: label = sign of the mean valence, repeated texts merged, undecided ones dropped.

    The sentences of one product review or one editorial form a group, so that no document stands on two sides.
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


def _carve(rows: list[Row], *, test: bool = True) -> dict[str, list[Row]]:
    """Split by a hash of the group: the same rows give the same splits, whatever their order or number."""
    splits: dict[str, list[Row]] = {name: [] for name in ("train", "dev", "test") if test or name != "test"}
    for row in rows:
        position = int.from_bytes(hashlib.sha256(row.group.encode()).digest()[:4], "big") / 2**32
        name = "dev" if position < DEV else "test" if test and position < DEV + TEST else "train"
        splits[name].append(row)
    return splits


def read_table(path: Path, options: TextOptions, key: str, *, labelled: bool = True) -> list[Row]:
    """The rows of a file; without `labelled`, of its texts only.

    :param key: of the recipe's section, that names the file.
    :raises UserError: see `read_splits`.
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
                keep_default_na=False,  # "NA" and "null" are texts; only an empty cell is missing
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
    except (ValueError, OSError, EOFError) as error:  # pandas' and pyarrow's parser errors are ValueErrors
        raise UserError(f"{path}: cannot be read as {suffix} ({str(error).splitlines()[0]})") from None
    # Line of a row in a text file: one header line; JSON lines have none.
    offset = {".tsv": 2, ".csv": 2}.get(suffix, 1)
    unit = "row" if suffix == ".parquet" else "line"
    return _rows(table, options, str(path), unit, offset, labelled=labelled)


def _read_hub(options: TextOptions) -> dict[str, list[Row]]:
    import datasets

    try:
        loaded = datasets.load_dataset(options.hub, options.hub_config)
    except Exception as error:  # the hub client raises many unrelated types
        raise UserError(
            f"{options.section}.hub: {options.hub}: cannot be loaded ({str(error).splitlines()[0]})"
        ) from None
    if "train" not in loaded:
        raise UserError(f"{options.section}.hub: {options.hub}: has no split named train, only {', '.join(loaded)}")
    splits = {}
    # The hub's test splits often carry no labels (−1); such a split is no split.
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
    """Check the columns and cells of a table; `offset` turns a row number into the file's own line number."""
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
