"""What is in a task's tables, in a few lines: sizes, classes, lengths, and what looks like a mistake in the data."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from compress.data.labels import alike, joined_labels
from compress.data.tables import Row, normalise

FEW_TEXTS = 100  # of dev: fewer tell two students hardly apart
LONGEST = 60  # characters of a label in a message
MOSTLY = 0.9  # share of the texts from which on something in them is no accident
SHOWN = 4  # classes, or examples of something


@dataclass(frozen=True)
class TableSummary:
    """The content of the tables, before samples are taken and contamination is removed."""

    rows: dict[str, int]  # by split
    classes: dict[str, int]  # rows of train by label, the most frequent label first
    characters: dict[str, int]  # of a training text, or of both texts of a pair: median, the 95th percentile, the most
    repeated: int  # rows of train whose text stands in an earlier row too, but for case, spaces and punctuation
    conflicts: int  # texts of train with several labels
    blank: int  # texts of all splits with one character only or without a letter or digit
    warnings: list[str]  # what looks like a mistake, a line each

    def lines(self) -> Iterator[str]:
        """The summary in lines to print, without the warnings."""
        sizes = ", ".join(f"{name} {rows:,}" for name, rows in self.rows.items())
        counts = [f"{_name(label)} {rows:,}" for label, rows in self.classes.items()]
        if len(counts) > 2 * SHOWN:
            counts = [*counts[:SHOWN], "…", counts[-1]]
        yield f"rows: {sizes}; {len(self.classes):,} classes in train: {', '.join(counts)}"
        sizes = "median {median:,}, 95 % up to {p95:,}, longest {longest:,}".format(**self.characters)
        yield f"characters of a training text: {sizes}; {self.repeated:,} texts repeat an earlier one"


def summarise(splits: dict[str, list[Row]], labels: Sequence[str] | None) -> TableSummary:
    """The summary of a task's rows.

    :param labels: the names that the recipe gives, if it does.
    """
    train = splits["train"]
    classes = dict(sorted(Counter(row.label for row in train).items(), key=lambda item: (-item[1], item[0])))
    lengths = sorted(sum(map(len, row.texts)) for row in train)
    first: dict[str, Row] = {}
    conflicts: dict[str, tuple[Row, Row]] = {}
    for row in train:
        before = first.setdefault(_text_key(row), row)
        if before.label != row.label:
            conflicts.setdefault(_text_key(row), (before, row))
    blank = [(name, row) for name, rows in splits.items() for row in rows if any(map(_is_blank, row.texts))]
    warnings = [
        *_about_labels(splits, classes, labels),
        *_about_texts(splits, list(conflicts.values()), blank),
        *_about_sizes(splits, classes),
    ]
    return TableSummary(
        rows={name: len(rows) for name, rows in splits.items()},
        classes=classes,
        characters={
            "median": round(median(lengths)),
            "p95": lengths[int(0.95 * (len(lengths) - 1))],
            "longest": lengths[-1],
        },
        repeated=len(train) - len(first),
        conflicts=len(conflicts),
        blank=len(blank),
        warnings=warnings,
    )


def _text_key(row: Row) -> str:
    """Equal for rows with the same words. It tells the texts of one document, which are a group, apart."""
    return "\t".join(map(normalise, row.texts))


def _is_blank(text: str) -> bool:
    return len(text.strip()) < 2 or re.search(r"\w", text) is None


def _is_decoded_wrongly(text: str) -> bool:
    """Whether a text has letters such as "Ã©", which are the bytes of "é" in UTF-8."""
    for encoding in () if text.isascii() else ("cp1252", "latin-1"):
        try:
            text.encode(encoding).decode("utf-8")
        except UnicodeError:
            continue
        return True
    return False


def _about_labels(splits: dict[str, list[Row]], classes: dict[str, int], labels: Sequence[str] | None) -> Iterator[str]:
    for group in alike(classes):
        name = max(group, key=lambda one: classes[one])
        others = ", ".join(
            f"{json.dumps(one, ensure_ascii=False)} = {json.dumps(name, ensure_ascii=False)}"
            for one in group
            if one != name
        )
        yield (
            f"labels {_some(map(_name, group))} are different classes, but look the same except for case, spaces or the form of a number; "
            f"relabel = {{{others}}} in the recipe's data makes them one"
        )
    if padded := [label for label in classes if label != label.strip()]:
        yield f"labels with spaces around them: {_some(map(_name, padded))}"
    if quoted := [label for label in classes if re.fullmatch(r'".*"|\'.*\'', label)]:
        yield f"labels with quotation marks around them: {_some(quoted)}; data.quoting = true removes them"
    if joined := joined_labels(set(classes)):
        yield f"label {joined!r} looks like several labels; here it is a class of its own"
    if unused := [label for label in labels or () if label not in classes]:
        yield f"data.labels: no training text has {_some(map(_name, unused))}"
    for name, rows in splits.items():
        there = {row.label for row in rows}
        if name != "train" and (absent := [label for label in classes if label not in there]):
            yield (
                f"{name} has no text of {len(absent):,} of {len(classes):,} classes: {_some(map(_name, absent))}; its accuracy says nothing "
                "about them"
            )


def _about_texts(
    splits: dict[str, list[Row]], conflicts: list[tuple[Row, Row]], blank: list[tuple[str, Row]]
) -> Iterator[str]:
    if conflicts:
        a, b = conflicts[0]
        yield (
            f"training texts with several labels: {len(conflicts):,}, such as {a.label!r} in {a.place} and {b.label!r} in {b.place}; "
            "no model can learn both"
        )
    if blank:
        name, row = blank[0]
        shown = next(text for text in row.texts if _is_blank(text))
        yield f"texts of a single character, or without a letter or digit: {len(blank):,}, such as {shown[:20]!r} ({name}, {row.place})"
    for what, found in (("a NUL character", "\0"), ("a replacement character, where a decoder failed,", "\ufffd")):
        rows = [
            (name, row) for name, some in splits.items() for row in some if any(found in text for text in row.texts)
        ]
        if rows:
            yield f"texts with {what} such as the one of {rows[0][0]}, {rows[0][1].place}: {len(rows):,}"
    numbers = [row for row in splits["train"] if not any(map(str.isalpha, "".join(row.texts)))]
    if len(numbers) > MOSTLY * len(splits["train"]):
        yield (
            f"{len(numbers):,} training texts have no letters, such as {numbers[0].text[:20]!r} in {numbers[0].place}; does data.text name "
            "the column of the texts?"
        )
    twice = [row for row in splits["train"] if any(map(_is_decoded_wrongly, row.texts))]
    if twice:
        yield (
            f"{len(twice):,} training texts are UTF-8 that was read as another encoding before it came here, such as {twice[0].place}; save "
            "the table anew from where it comes"
        )
    wrapped = [row for row in splits["train"] if len(row.text) > 2 and row.text[0] == row.text[-1] == '"']
    quoted = [row for row in wrapped if '""' in row.text]
    if not quoted and len(wrapped) > MOSTLY * len(splits["train"]):
        yield f"{len(wrapped):,} texts stand in quotation marks, such as {wrapped[0].place}; data.quoting = true removes them"
    if quoted:
        yield f'{len(quoted):,} texts stand in quotation marks, with "" inside, such as {quoted[0].place}; data.quoting = true reads them'


def _about_sizes(splits: dict[str, list[Row]], classes: dict[str, int]) -> Iterator[str]:
    if single := [label for label, rows in classes.items() if rows == 1]:
        yield f"{len(single):,} of {len(classes):,} classes have one training text only: {_some(map(_name, single))}; give more of them"
    if (size := len(splits["dev"])) < FEW_TEXTS:
        yield f"dev has {size:,} texts only: each is worth {100 / size if size else 100:.1f} points of its accuracy"


def _name(label: str) -> str:
    """A label in a message, cut where it is as long as a text."""
    return repr(label if len(label) <= LONGEST else f"{label[:LONGEST]}…")


def _some(names: Iterator[str] | Sequence[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:SHOWN]) + (f" and {len(listed) - SHOWN:,} more" if len(listed) > SHOWN else "")
