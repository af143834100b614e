"""Dev and test splits that are carved out of train."""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict

from compress.data.tables import Row

SHARES = {"dev": 0.1, "test": 0.1}  # of the groups of each class
# A class gets half to one and a half times its share, also where the hash would give it another number.
LEAST, MOST = 0.5, 1.5


def carve(rows: list[Row], *, test: bool = True) -> dict[str, list[Row]]:
    """Split the rows into train, dev and, if wanted, test; all splits keep their order.

    A group goes where its hash says. So the split of a row does not depend on the order of the rows, and in a large class
    not on their number either. In a small class the numbers are corrected by order of the hash. Every label of the table
    is in train first: the last group that has it goes there.
    """
    labels: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        labels[row.group].add(row.label)
    groups = Counter(label for some in labels.values() for label in some)
    classes: dict[str, list[str]] = defaultdict(list)
    for group, some in labels.items():
        # A group of several labels counts for the rarest one, which is the hardest to divide.
        classes[min(some, key=lambda label: (groups[label], label))].append(group)
    place: dict[str, str] = {}
    for members in classes.values():
        place |= _divide(members, test=test)
    trained = {label for group, split in place.items() if split == "train" for label in labels[group]}
    for label in sorted(groups.keys() - trained):
        place[max((group for group in labels if label in labels[group]), key=_position)] = "train"
    splits: dict[str, list[Row]] = {name: [] for name in ("train", *SHARES) if test or name != "test"}
    for row in rows:
        splits[place[row.group]].append(row)
    return splits


def _divide(groups: list[str], *, test: bool) -> dict[str, str]:
    """The split of each group of a class."""
    groups = sorted(groups, key=lambda group: (_position(group), group))
    place = dict.fromkeys(groups, "train")
    begin, bound = 0, 0.0
    for name, share in SHARES.items():
        if name == "test" and not test:
            continue
        by_hash = sum(bound <= _position(group) < bound + share for group in groups)
        expected = share * len(groups)
        least, most = math.floor(LEAST * expected + 0.5), math.floor(MOST * expected + 0.5)
        count = min(max(by_hash, least), most)
        place |= dict.fromkeys(groups[begin : begin + count], name)
        begin, bound = begin + count, bound + share
    return place


def _position(group: str) -> float:
    """A number in [0, 1) that only depends on the group."""
    return int.from_bytes(hashlib.sha256(group.encode()).digest()[:4], "big") / 2**32
