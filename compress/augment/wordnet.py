"""Synonyms out of WordNet 3.0: the other words of every synset that a word, or its base form, belongs to."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache

from compress.data.assets import wordnet

# Morphy, WordNet's own rules of detachment (morphy(7WN)): an ending and what takes its place.
_ENDINGS = {
    "noun": [("s", ""), ("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"), ("men", "man"), ("ies", "y")],
    "verb": [("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")],
    "adj": [("er", ""), ("est", ""), ("er", "e"), ("est", "e")],
    "adv": [],
}  # fmt: skip
_MARKER = re.compile(r"\((p|a|ip)\)$")  # where an adjective may stand

Synsets = dict[str, list[tuple[str, ...]]]  # word → the words of each of its synsets


@cache
def synonyms(word: str) -> tuple[str, ...]:
    """Synonyms of a lower-case word in any part of speech, sorted; a synonym may be of several words.

    :raises UserError: WordNet is not cached and cannot be fetched.
    """
    found: set[str] = set()
    for part_of_speech in _ENDINGS:
        synsets, exceptions = _load(part_of_speech)
        for base in _base_forms(word, part_of_speech, synsets, exceptions):
            found.update(_spoken(member) for synset in synsets[base] for member in synset)
    return tuple(sorted(found - {word, ""}))


def _base_forms(word: str, part_of_speech: str, synsets: Synsets, exceptions: dict[str, list[str]]) -> Iterator[str]:
    """The word itself and what it may be a form of, as far as WordNet knows them."""
    detached = [word.removesuffix(end) + new for end, new in _ENDINGS[part_of_speech] if word.endswith(end)]
    # An irregular form has no regular reading: "was" is no plural of "wa".
    for base in dict.fromkeys([word, *(exceptions.get(word) or detached)]):
        if base in synsets:
            yield base


def _spoken(member: str) -> str:
    return re.sub(r"[_-]", " ", member).strip().lower()


@cache
def _load(part_of_speech: str) -> tuple[Synsets, dict[str, list[str]]]:
    """Parse `data.POS` (format: wndb(5WN)) and the irregular forms of `POS.exc`."""
    directory = wordnet()
    synsets: Synsets = defaultdict(list)
    with (directory / f"data.{part_of_speech}").open(encoding="latin-1") as file:
        for line in file:
            if line.startswith("  "):  # the licence
                continue
            # offset, file, type, number of words in hexadecimal, then pairs of a word and its sense number
            fields = line[: line.index("|")].split(" ")
            members = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
            members = [_MARKER.sub("", member) for member in members]
            for member in members:
                synsets[member.lower()].append(tuple(members))
    with (directory / f"{part_of_speech}.exc").open(encoding="latin-1") as file:
        forms = [line.split() for line in file]
    return dict(synsets), {form: bases for form, *bases in forms}
