"""Part-of-speech tags by an averaged perceptron (Honnibal 2013), with its published weights: Penn Treebank tags."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from functools import cache
from typing import Any

from compress.data.assets import perceptron_tagger

_START, _END = ["-START-", "-START2-"], ["-END-", "-END2-"]


class PerceptronTagger:
    """Greedy tagging from left to right; the features are those that the weights were trained with."""

    def __init__(self, weights: dict[str, dict[str, float]], one_tag: dict[str, str], classes: set[str]) -> None:
        self.weights, self.one_tag = weights, one_tag
        self.classes = sorted(classes)

    def tag(self, words: Sequence[str]) -> list[str]:
        """The tag of each word of one sentence, e.g. `NN`, `VBD`, `JJ`; punctuation marks are words of their own."""
        context = [*_START, *map(_normalise, words), *_END]
        tags = list(_START)
        for i, word in enumerate(words):
            tags.append(self.one_tag.get(word) or self._predict(word, context, i + 2, tags[-1], tags[-2]))
        return tags[2:]

    def _predict(self, word: str, context: list[str], i: int, before: str, before2: str) -> str:
        features = (
            "bias",
            f"i suffix {word[-3:]}",
            f"i pref1 {word[0]}",
            f"i-1 tag {before}",
            f"i-2 tag {before2}",
            f"i tag+i-2 tag {before} {before2}",
            f"i word {context[i]}",
            f"i-1 tag+i word {before} {context[i]}",
            f"i-1 word {context[i - 1]}",
            f"i-1 suffix {context[i - 1][-3:]}",
            f"i-2 word {context[i - 2]}",
            f"i+1 word {context[i + 1]}",
            f"i+1 suffix {context[i + 1][-3:]}",
            f"i+2 word {context[i + 2]}",
        )
        scores = dict.fromkeys(self.classes, 0.0)
        for feature in features:
            for tag, weight in self.weights.get(feature, {}).items():
                scores[tag] += weight
        # Classes are sorted, and the later of two equal ones wins, as it did in training.
        return max(self.classes, key=lambda tag: (scores[tag], tag))


@cache
def load_tagger() -> PerceptronTagger:
    """The tagger with its published weights.

    :raises UserError: they are not cached and cannot be fetched.
    """
    with (perceptron_tagger() / "trontagger-0.1.0.pickle").open("rb") as file:
        return PerceptronTagger(*_PlainUnpickler(file, encoding="utf-8").load())


class _PlainUnpickler(pickle.Unpickler):
    """Builds dictionaries, strings, numbers and sets; a pickle that wants anything else is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in (("builtins", "set"), ("__builtin__", "set")):
            return set
        raise pickle.UnpicklingError(f"the tagger's weights ask for {module}.{name}")


def _normalise(word: str) -> str:
    if "-" in word and word[0] != "-":
        return "!HYPHEN"
    if word.isdigit() and len(word) == 4:
        return "!YEAR"
    return "!DIGITS" if word[0].isdigit() else word.lower()
