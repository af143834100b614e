"""The stage that writes augmented texts: the recipe's method, as many times over the training texts as it asks for."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from rich.progress import track

from compress.augment.example import Augmentation, Example, examples
from compress.console import console
from compress.data.assets import model_source
from compress.data.corpus import UNLABELLED, Corpus, Split
from compress.recipe import Recipe
from compress.recipe.sections import (
    CbertOptions,
    EdaOptions,
    GibbsOptions,
    L2aOptions,
    MaskedLmOptions,
    ReplacementOptions,
    SamplingOptions,
    SpansOptions,
)
from compress.runtime.errors import UserError
from compress.training.progress import LOG_SECONDS

TEXTS = "texts.jsonl"
T = TypeVar("T")


def make_augmented(recipe: Recipe, corpus: Corpus, language_model: Path | None, directory: Path, scratch: Path) -> None:
    """Write `texts.jsonl` to `directory`: a line {text, text_b or null, row} for each example, row being its original's.

    :param language_model: what `make_language_model` wrote, for the methods that ask one for words.
    :param scratch: directory for checkpoints; a training found there is carried on.
    :raises UserError: the teacher's model does not suit the method, or data that it needs cannot be fetched.
    """
    options = recipe.augmentation
    assert options.method != "none", "a recipe without augmentation has no such stage"
    if isinstance(options, L2aOptions):
        assert language_model is not None, "its stage comes first"
        _write_pool(recipe, options, corpus, language_model, directory)
        return
    train = corpus.splits["train"]
    augment = _make_augmentation(recipe, corpus, language_model, scratch)
    rng = random.Random(f"{options.method}/{recipe.seed}")
    passes = (
        (row, example) for _ in range(options.copies) for row, example in enumerate(augment(examples(train), rng))
    )
    with (directory / TEXTS).open("w", encoding="utf-8") as file:
        for row, example in _shown(passes, options.copies * len(train), options.method):
            line = {"text": example.text, "text_b": example.text_b, "row": row}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def load_augmented(directory: Path, train: Split) -> Split:
    """The texts that `make_augmented` wrote, unlabelled: every label is −1.

    :param train: the originals, whose domains they have; texts that start from a source domain have none.
    """
    lines = read_lines(directory)
    texts_b = [line["text_b"] for line in lines] if lines and lines[0]["text_b"] is not None else None
    known = train.domains is not None and not any(line.get("source") for line in lines)
    domains = [train.domains[line["row"]] for line in lines] if train.domains is not None and known else None
    return Split([line["text"] for line in lines], texts_b, [UNLABELLED] * len(lines), domains)


@dataclass(frozen=True)
class Pool:
    """The texts that L2A's selector decides on: what it is told of each, besides what teacher and student say."""

    source: list[bool]  # a text of the source domain, or a sample started from one
    real: list[bool]  # a text as it was found, not a sample
    log_likelihoods: list[float]  # mean over the words visited, nats; 0 of a real text, where nothing was drawn

    def __len__(self) -> int:
        return len(self.source)

    def __add__(self, other: Pool) -> Pool:
        return Pool(self.source + other.source, self.real + other.real, self.log_likelihoods + other.log_likelihoods)


def pool_of_texts(count: int, *, source: bool) -> Pool:
    """Real texts among those that the selector decides on."""
    return Pool([source] * count, [True] * count, [0.0] * count)


def load_pool(directory: Path) -> Pool:
    """What `make_augmented` noted beside the texts of L2A."""
    lines = read_lines(directory)
    return Pool([line["source"] for line in lines], [False] * len(lines), [line["log_likelihood"] for line in lines])


def read_lines(directory: Path) -> list[dict[str, Any]]:
    """The lines that `make_augmented` wrote."""
    with (directory / TEXTS).open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _write_pool(recipe: Recipe, options: L2aOptions, corpus: Corpus, language_model: Path, directory: Path) -> None:
    """`copies` samples for each training text, a share of them started from source texts, in random order.

    A line has `source` and `log_likelihood` besides; its `row` is one of the split that it was started from.
    """
    from compress.augment.gibbs import gibbs_samples
    from compress.augment.masked_lm import MaskedLM

    rng = random.Random(f"{options.method}/{recipe.seed}")
    default = 0.5 if corpus.source else 0.0
    share = default if options.source_share is None else options.source_share
    count = options.copies * len(corpus.splits["train"])
    from_source = round(share * count)
    starts: list[tuple[bool, int, Example]] = []
    for is_source, split, wanted in (
        (False, corpus.splits["train"], count - from_source),
        (True, corpus.source, from_source),
    ):
        texts = list(enumerate(examples(split))) if split else []
        drawn: list[tuple[int, Example]] = []
        while len(drawn) < wanted:  # each text as often as the others
            drawn += rng.sample(texts, len(texts))
        starts += [(is_source, row, example) for row, example in drawn[:wanted]]
    rng.shuffle(starts)
    samples = gibbs_samples(MaskedLM.load(language_model), (example for *_, example in starts), options, rng)
    with (directory / TEXTS).open("w", encoding="utf-8") as file:
        for i, sample in _shown(enumerate(samples), count, options.method):
            is_source, row, _ = starts[i]
            line: dict[str, Any] = {"text": sample.example.text, "text_b": sample.example.text_b, "row": row}
            line |= {"source": is_source, "log_likelihood": round(sample.log_likelihood, 5)}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def make_language_model(recipe: Recipe, corpus: Corpus, directory: Path, scratch: Path) -> None:
    """Write the masked language model of the task's texts, which no label and no seed of the recipe has a part in.

    :param scratch: directory for checkpoints; a training found there is carried on.
    :raises UserError: the teacher's model is not of a kind that this works for.
    """
    from compress.augment.train_masked_lm import train_masked_lm

    options = recipe.augmentation
    assert isinstance(options, MaskedLmOptions), "no other augmentation has this stage"
    source = model_source(recipe.teacher.model)
    lm = train_masked_lm(source, corpus.reading_source(), options, scratch, max_length=recipe.target.max_length)
    lm.save(directory)


def _make_augmentation(recipe: Recipe, corpus: Corpus, language_model: Path | None, scratch: Path) -> Augmentation:
    # Each method imports only what it needs: spans and EDA run without torch.
    options = recipe.augmentation
    if isinstance(options, SpansOptions):
        from compress.augment.spans import spans

        return spans
    if isinstance(options, EdaOptions):
        from compress.augment.eda import eda

        return partial(eda, alpha=options.alpha)
    if isinstance(options, SamplingOptions):
        return _make_sampling(options, model_source(recipe.teacher.model), corpus.splits["train"])
    if isinstance(options, CbertOptions | ReplacementOptions | GibbsOptions):
        assert language_model is not None, "its stage comes first"
        return _make_masked_lm(options, recipe, corpus, language_model, scratch)
    raise AssertionError(f"no augmentation for {options!r}")


def _make_sampling(options: SamplingOptions, source: str, train: Split) -> Augmentation:
    from transformers import AutoTokenizer

    from compress.augment.sampling import make_sampling
    from compress.augment.tagger import load_tagger

    try:
        mask_token = AutoTokenizer.from_pretrained(source).mask_token
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"teacher.model: {source}: no tokenizer ({str(error).splitlines()[0]})") from None
    if mask_token is None:
        raise UserError(
            f"teacher.model: {source} has no mask token, which augmentation.method = sampling needs; choose spans or eda"
        )
    texts = [*train.texts, *(train.texts_b or [])]
    return make_sampling(texts, load_tagger(), mask_token, mask=options.mask, pos=options.pos, ngram=options.ngram)


def _make_masked_lm(
    options: CbertOptions | ReplacementOptions | GibbsOptions,
    recipe: Recipe,
    corpus: Corpus,
    language_model: Path,
    scratch: Path,
) -> Augmentation:
    from compress.augment.cbert import make_cbert
    from compress.augment.gibbs import make_gibbs
    from compress.augment.masked_lm import MaskedLM
    from compress.augment.replacement import make_replacement
    from compress.augment.train_masked_lm import condition_on_labels

    lm = MaskedLM.load(language_model)
    if isinstance(options, CbertOptions):
        lm = condition_on_labels(lm, corpus, options, scratch, seed=recipe.seed)
        return make_cbert(lm, mask=options.mask, temperature=options.temperature, top_k=options.top_k)
    if isinstance(options, GibbsOptions):
        return make_gibbs(lm, options)
    return make_replacement(lm, probability=options.probability, candidates=options.candidates)


def _shown(stream: Iterable[tuple[int, T]], total: int, name: str) -> Iterator[tuple[int, T]]:
    """The stream itself, with a live bar on a terminal and a line every few seconds in a log."""
    if console.is_terminal:
        yield from track(stream, description=f"  {name}", total=total, console=console, transient=True)
        return
    started = logged = time.monotonic()
    for done, item in enumerate(stream):
        yield item
        if time.monotonic() - logged > LOG_SECONDS:
            logged = time.monotonic()
            left = (logged - started) / (done + 1) * (total - done - 1)
            console.print(f"  {name}: {done + 1}/{total} texts  {left:.0f} s left")
