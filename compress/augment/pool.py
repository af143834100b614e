"""The pool of L2A: the texts that its selector keeps or drops, and the samples that are made for it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compress.augment.example import Example, examples
from compress.augment.texts import read_lines, write_lines
from compress.data.corpus import Corpus
from compress.recipe.sections import L2aOptions


@dataclass(frozen=True)
class Pool:
    """What the selector knows about each text of the pool, besides the outputs of teacher and student."""

    source: list[bool]  # a text of the source domain, or a sample that was made from one
    real: list[bool]  # a text of the data; false: a sample
    log_likelihoods: list[float]  # of a sample: mean over the words visited, in nats; of a real text: 0

    def __len__(self) -> int:
        return len(self.source)

    def __add__(self, other: Pool) -> Pool:
        return Pool(self.source + other.source, self.real + other.real, self.log_likelihoods + other.log_likelihoods)


def pool_of_texts(count: int, *, source: bool) -> Pool:
    """A pool of `count` real texts.

    :param source: whether they are texts of the source domain.
    """
    return Pool([source] * count, [True] * count, [0.0] * count)


def load_pool(directory: Path) -> Pool:
    """The pool of the samples that `write_samples` wrote."""
    lines = read_lines(directory)
    return Pool([line["source"] for line in lines], [False] * len(lines), [line["log_likelihood"] for line in lines])


def write_samples(options: L2aOptions, corpus: Corpus, language_model: Path, directory: Path, seed: int) -> None:
    """Write `copies` samples for each training text to `texts.jsonl`, in random order. A share is made from source texts.

    A line is {text, text_b or null, row, source, log_likelihood}. `row` is the number of the original in its split, which
    is the source texts if `source` is true, else the training texts.
    """
    from compress.augment.gibbs import gibbs_samples
    from compress.augment.masked_lm import MaskedLM

    rng = random.Random(f"{options.method}/{seed}")
    starts = _draw_starts(options, corpus, rng)
    samples = gibbs_samples(MaskedLM.load(language_model), (start.example for start in starts), options, rng)

    def lines() -> Iterator[dict[str, Any]]:
        for start, sample in zip(starts, samples, strict=True):
            yield {
                "text": sample.example.text,
                "text_b": sample.example.text_b,
                "row": start.row,
                "source": start.source,
                "log_likelihood": round(sample.log_likelihood, 5),
            }

    write_lines(directory, lines(), len(starts), options.method)


@dataclass(frozen=True)
class _Start:
    """The text that a sample is made from."""

    source: bool  # a source text; false: a training text
    row: int  # its number in its split
    example: Example


def _draw_starts(options: L2aOptions, corpus: Corpus, rng: random.Random) -> list[_Start]:
    """The originals of all samples, in random order."""
    default = 0.5 if corpus.source else 0.0
    share = default if options.source_share is None else options.source_share
    count = options.copies * len(corpus.splits["train"])
    from_source = round(share * count)
    starts: list[_Start] = []
    for source, split, wanted in (
        (False, corpus.splits["train"], count - from_source),
        (True, corpus.source, from_source),
    ):
        texts = [_Start(source, row, example) for row, example in enumerate(examples(split))] if split else []
        drawn: list[_Start] = []
        while len(drawn) < wanted:  # whole passes, so that all texts are drawn equally often
            drawn += rng.sample(texts, len(texts))
        starts += drawn[:wanted]
    rng.shuffle(starts)
    return starts
