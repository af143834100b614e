"""Penn Treebank part-of-speech tags from NLTK's averaged perceptron, with its author's own weights (Honnibal 2013)."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from functools import cache
from typing import Any

from nltk.tag.perceptron import PerceptronTagger

from compress.data.assets import perceptron_tagger


class TreebankTagger:
    """A tagger that tags greedily from left to right."""

    def __init__(self, weights: dict[str, dict[str, float]], one_tag: dict[str, str], classes: set[str]) -> None:
        self.perceptron = PerceptronTagger(load=False)
        self.perceptron.decode_json_params((weights, one_tag, classes))

    def tag(self, words: Sequence[str]) -> list[str]:
        """The tag of each word of one sentence, e.g. `NN`, `VBD`, `JJ`. Punctuation marks are words of their own."""
        return [tag for _, tag in self.perceptron.tag(words)]


@cache
def load_tagger() -> TreebankTagger:
    """The tagger with its published weights.

    :raises UserError: the weights are not cached and cannot be fetched.
    """
    with (perceptron_tagger() / "trontagger-0.1.0.pickle").open("rb") as file:
        return TreebankTagger(*_PlainUnpickler(file, encoding="utf-8").load())


class _PlainUnpickler(pickle.Unpickler):
    """Builds dictionaries, strings, numbers and sets. It refuses a pickle that asks for anything else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in (("builtins", "set"), ("__builtin__", "set")):
            return set
        raise pickle.UnpicklingError(f"the tagger's weights ask for {module}.{name}")
