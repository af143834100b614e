"""Checks of the label column: classes, and neither several labels a text nor scores."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable
from math import isfinite
from unicodedata import category, normalize

from compress.recipe.sections import TextOptions
from compress.runtime.errors import UserError

MOST_CLASSES = 1000
MOST_GRADES = 20  # so many different decimal numbers may be classes, such as ratings in halves
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)


def check_labels(labels: list[str], options: TextOptions, place: str) -> None:
    """See that the labels of all training texts are classes.

    :param place: of the training texts, for messages.
    :raises UserError: a label is the text of a list of labels; the labels are scores; there are too many of them.
    """
    names = set(labels)
    if several := next((name for name in sorted(names) if _is_list(name)), None):
        raise UserError(
            f"{place}: column {options.label!r} holds {several!r}, a list; a text has one label here: keep the most important one, or "
            "make a table for each label that says yes or no"
        )
    numbers = [float(name) for name in names if _NUMBER.fullmatch(name.strip())]
    decimal = len(numbers) == len(names) and any(number != round(number) for number in numbers if isfinite(number))
    if decimal and (len(names) > MOST_GRADES or 2 * len(names) > len(labels)):
        raise UserError(
            f"{place}: column {options.label!r} holds {len(names):,} different numbers from {min(numbers):g} to {max(numbers):g}: scores, "
            f"not classes, and there is no regression here; make classes of them, such as low and high, or name another column "
            f"in {options.section}.label"
        )
    if len(names) > MOST_CLASSES:
        raise UserError(
            f"{place}: column {options.label!r} holds {len(names):,} different labels; there may be {MOST_CLASSES:,} classes. Is it the "
            f"column of the classes ({options.section}.label)?"
        )


def alike(names: Iterable[str]) -> list[list[str]]:
    """The groups of labels that look the same but for case and spaces, or are one number written in several ways."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        groups[_folded(name)].append(name)
    return [group for group in groups.values() if len(group) > 1]


def like(name: str, names: Iterable[str]) -> str:
    """A hint for a message about an unknown label: the known one that is alike, or nothing."""
    found = next((known for known in names if _folded(known) == _folded(name)), None)
    return "" if found is None else f", but {found!r}"


def joined_labels(names: set[str]) -> str | None:
    """A label such as "a,b" or "a|b" that looks like several; None if there is none.

    Its parts are labels too. Behind a separator of lists, such as "|", one of them is enough.
    """
    for name in sorted(names):
        parts = [part.strip() for part in re.split(r"[,;|/+]", name)]
        if len(parts) > 1 and names.issuperset(parts):
            return name
        if re.search(r"[,;|]", name) and not names.isdisjoint(part.strip() for part in re.split(r"[,;|]", name)):
            return name
    return None


def seen(name: str) -> str:
    """What a reader sees of a name: without characters that have no width, without upper case and further spaces, and with one
    form of each letter, which may be written with its accent or before it (NFKC).
    """
    name = "".join(character for character in name if category(character) != "Cf")
    return " ".join(normalize("NFKC", name).split()).casefold()


def _folded(name: str) -> str:
    name = seen(name)
    if not _NUMBER.fullmatch(name):
        return name
    if whole := re.fullmatch(r"\+?(-?)0*(\d+)", name):
        return whole[1] + whole[2]  # codes may have more digits than a float
    number = float(name)
    return str(int(number)) if number.is_integer() else repr(number)


def _is_list(name: str) -> bool:
    """Whether a label is a list of several, as Python or JSON writes it."""
    if not (name.strip().startswith("[") and name.strip().endswith("]")):
        return False
    try:
        found = ast.literal_eval(name.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False
    return isinstance(found, list) and len(found) > 1
