"""Which columns of a table hold the texts and the labels. What is not plain is asked, not guessed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from math import isfinite
from statistics import mean
from typing import Any

from compress.data.labels import MOST_CLASSES, MOST_GRADES
from compress.runtime.errors import UserError


def _words(names: str) -> list[str]:
    return names.split()


# The usual names, the most telling first.
LABEL_NAMES = _words(
    "label labels class category target gold sentiment polarity intent topic stance emotion queue tag rating stars score grade y"
)
TEXT_NAMES = _words(
    "text texts sentence body content message review comment utterance tweet document abstract description query question title "
    "subject headline x"
)
PAIR_NAMES = [
    pair.split("|")
    for pair in _words(
        "text|text_b text_a|text_b text1|text2 sentence1|sentence2 sentence_1|sentence_2 premise|hypothesis question1|question2 "
        "question_1|question_2 question|sentence query|passage query|document question|answer claim|evidence"
    )
]
NOT_LABELS = set(_words("id index split fold lang language domain source date time user author url"))
LONGEST_LABEL = 60  # characters, on average
SHORTEST_TEXT = 8  # characters, on average
SHOWN = 6


@dataclass(frozen=True)
class Column:
    """What tells texts from labels in a column."""

    name: str
    distinct: int
    characters: float  # of a cell, on average
    strings: bool  # whether the cells that are not empty are strings
    words: float  # of a cell, on average
    number: bool  # whether all cells are numbers
    fractions: bool  # whether some of these are no whole numbers

    @property
    def parts(self) -> set[str]:
        """The words of its name, in lower case."""
        return set(re.findall(r"[^\W_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", self.name).lower()))


@dataclass(frozen=True)
class Roles:
    """The columns of a task."""

    text: str
    text_b: str | None
    label: str
    others: list[str]  # the columns that are not used


def choose_columns(
    cells: dict[str, list[Any]],
    place: str,
    text: str | None = None,
    text_b: str | None = None,
    label: str | None = None,
) -> Roles:
    """Find the columns of the texts and of the labels.

    :param place: the file, for messages.
    :param text: the column that the user has named, if so; likewise `text_b` and `label`.
    :raises UserError: a named column is not there, or it is not plain which column it is. The message says how to name it.
    """
    for option, name in (("--text", text), ("--text-b", text_b), ("--label", label)):
        if name is not None and name not in cells:
            close = get_close_matches(name, cells, n=1)
            meant = f"; did you mean {close[0]!r}?" if close else ""
            raise UserError(f"{option} {name}: {place} has no such column, only {_list(list(cells))}{meant}")
        if name is not None and [text, text_b, label].count(name) > 1:
            raise UserError(
                f"{option} {name}: this column is named twice; name another one for the texts or the labels"
            )
    columns = [describe(name, values) for name, values in cells.items()]
    rows = len(next(iter(cells.values())))
    if text is None and text_b is None:
        lower = {column.name.lower(): column.name for column in columns if column.strings}
        pair = next(
            (pair for pair in PAIR_NAMES if lower.keys() >= set(pair) and label not in map(lower.get, pair)), None
        )
        text, text_b = (lower[pair[0]], lower[pair[1]]) if pair else (None, None)
    label = label or _label([column for column in columns if column.name not in (text, text_b)], rows, place)
    text = text or _text([column for column in columns if column.name not in (text_b, label)], place)
    return Roles(text, text_b, label, [name for name in cells if name not in (text, text_b, label)])


def describe(name: str, values: Sequence[Any]) -> Column:
    """What tells texts from labels."""
    filled = [value for value in values if value is not None and value == value and str(value).strip()]
    shown = [str(value) for value in filled]
    numbers = [_number(value) for value in shown]
    return Column(
        name=name,
        distinct=len(set(shown)),
        characters=mean(map(len, shown)) if shown else 0.0,
        strings=bool(filled) and all(isinstance(value, str) for value in filled),
        words=mean(len(value.split()) for value in shown) if shown else 0.0,
        number=bool(numbers) and None not in numbers,
        fractions=any(number is not None and number != round(number) for number in numbers),
    )


def _text(columns: list[Column], place: str) -> str:
    """The column of the texts: by its name, or else the one with the longest cells."""
    likely = [
        column for column in columns if column.strings and not column.number and column.characters >= SHORTEST_TEXT
    ]
    if not likely:
        raise UserError(f"{place}: no column looks like texts; name it with --text: {_list([c.name for c in columns])}")
    return _by_name(likely, TEXT_NAMES) or max(likely, key=lambda column: column.characters).name


def _label(columns: list[Column], rows: int, place: str) -> str:
    """The column of the labels: by its name, or else the only one that looks like classes."""
    likely = [
        column
        for column in columns
        if 2 <= column.distinct <= min(MOST_CLASSES, max(2, rows // 2))
        and column.characters <= LONGEST_LABEL
        and not (column.fractions and column.distinct > MOST_GRADES)
    ]
    if found := _by_name(likely, LABEL_NAMES) or _by_name(columns, LABEL_NAMES[:3]):
        return found
    plain = [column for column in likely if not column.parts & NOT_LABELS]
    if len(plain) == 1:
        return plain[0].name
    if not plain:
        counted = [f"{column.name!r} ({column.distinct:,} values)" for column in columns]
        raise UserError(
            f"{place}: no column looks like labels, which repeat; name it with --label: {_list(counted, quote=False)}"
        )
    counted = [f"{column.name!r} ({column.distinct:,} values)" for column in plain]
    raise UserError(f"{place}: which column is the label? Name it with --label: {_list(counted, quote=False)}")


def _by_name(columns: list[Column], names: Sequence[str]) -> str | None:
    """The column that has one of the names, or else that has one of them as a word of its name."""
    for name in names:
        if found := next((column.name for column in columns if column.name.lower().strip() == name), None):
            return found
    return next((column.name for name in names for column in columns if name in column.parts), None)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if isfinite(number) else None  # "nan" and "inf" are words here


def _list(names: list[str], *, quote: bool = True) -> str:
    shown = [repr(name) if quote else name for name in names[:SHOWN]]
    return ", ".join(shown) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
