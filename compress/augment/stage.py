"""The stages of augmentation: the language model that some methods need, and the augmented texts."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from compress.augment.example import Augmentation, examples
from compress.augment.pool import write_samples
from compress.augment.texts import write_lines
from compress.console import console
from compress.data.assets import perceptron_tagger, wordnet
from compress.data.corpus import Corpus, Split
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
    TeacherOptions,
)
from compress.runtime.errors import UserError

# Shares of augmented texts that equal their originals.
WORTH_A_LINE, WORTH_A_WARNING = 0.01, 0.5


def make_augmented(recipe: Recipe, corpus: Corpus, language_model: Path | None, directory: Path, scratch: Path) -> None:
    """Write `texts.jsonl` to `directory`: `copies` new texts for each training text.

    A line is {text, text_b or null, row}, where `row` is the number of the original in the training texts. L2A adds more,
    see `write_samples`.

    :param language_model: the result of `make_language_model`, for the methods that need one.
    :param scratch: directory for checkpoints. A training that was interrupted continues from them.
    :raises UserError: the teacher's model does not fit the method, or data that the method needs cannot be fetched.
    """
    options = recipe.augmentation
    assert options.method != "none", "a recipe without augmentation has no such stage"
    if isinstance(options, L2aOptions):
        assert language_model is not None, "its stage comes first"
        write_samples(options, corpus, language_model, directory, recipe.seed)
        return
    train = corpus.splits["train"]
    augment = _make_augmentation(recipe, corpus, language_model, scratch)
    rng = random.Random(f"{options.method}/{recipe.seed}")

    equal = 0

    def lines() -> Iterator[dict[str, Any]]:
        nonlocal equal
        for _ in range(options.copies):
            pairs = zip(examples(train), augment(examples(train), rng), strict=True)
            for row, (original, example) in enumerate(pairs):
                equal += example.sides == original.sides
                yield {"text": example.text, "text_b": example.text_b, "row": row}

    total = options.copies * len(train)
    write_lines(directory, lines(), total, options.method)
    say_how_many_are_equal(options.method, equal, total)


def say_how_many_are_equal(method: str, equal: int, total: int) -> None:
    """Say how many augmented texts are their originals; as a warning if most of them are, since the student learns nothing then."""
    if equal >= WORTH_A_WARNING * total:
        console.print(
            f"  [bold yellow]{equal:,} of {total:,} texts of {method} equal their originals[/]: it changes little in texts like these; "
            "choose another augmentation.method, or none"
        )
    elif equal >= WORTH_A_LINE * total:
        console.print(f"  {equal:,} of {total:,} texts of {method} equal their originals")


def make_language_model(recipe: Recipe, corpus: Corpus, directory: Path, scratch: Path) -> None:
    """Write the masked language model of the task's texts. It depends neither on labels nor on the recipe's seed.

    :param scratch: directory for checkpoints. A training that was interrupted continues from them.
    :raises UserError: the teacher's model is of a kind that is not supported.
    """
    from compress.augment.train_masked_lm import train_masked_lm

    options = recipe.augmentation
    assert isinstance(options, MaskedLmOptions), "no other augmentation has this stage"
    texts, length = corpus.reading_source(), recipe.target.max_length
    lm = train_masked_lm(recipe.teacher, texts, options, scratch, max_length=length)
    lm.save(directory)


def _make_augmentation(recipe: Recipe, corpus: Corpus, language_model: Path | None, scratch: Path) -> Augmentation:
    """The recipe's method. Each method's modules are imported here, because spans and EDA run without torch."""
    options = recipe.augmentation
    if isinstance(options, SpansOptions):
        from compress.augment.spans import spans

        return spans
    if isinstance(options, EdaOptions):
        from compress.augment.eda import eda

        return partial(eda, alpha=options.alpha)
    if isinstance(options, SamplingOptions):
        return _make_sampling(options, recipe.teacher, corpus.splits["train"])
    if isinstance(options, CbertOptions | ReplacementOptions | GibbsOptions):
        assert language_model is not None, "its stage comes first"
        return _make_masked_lm(options, recipe, corpus, language_model, scratch)
    raise AssertionError(f"no augmentation for {options!r}")


def check_augmentation(recipe: Recipe, texts: Split) -> None:
    """Check before anything is trained that the recipe's augmentation can be made, and fetch what it needs.

    :param texts: a few of the task's.
    :raises UserError: the teacher's model or tokenizer does not fit it, or its data cannot be fetched.
    """
    options = recipe.augmentation
    if isinstance(options, EdaOptions):
        wordnet()
    elif isinstance(options, SamplingOptions):
        perceptron_tagger()
        _mask_token(recipe.teacher)
    elif isinstance(options, MaskedLmOptions):
        from compress.augment.train_masked_lm import try_masked_lm

        conditioned = isinstance(options, CbertOptions)
        try_masked_lm(recipe.teacher, texts, recipe.target.max_length, conditioned=conditioned)


def _mask_token(teacher: TeacherOptions) -> str:
    from compress.teachers.checkpoint import open_tokenizer

    token = open_tokenizer(teacher).mask_token
    if token is None:
        raise UserError(
            f"augmentation.method: 'sampling' needs a mask token, which the tokenizer of {teacher.model} has not; choose spans or eda"
        )
    return token


def _make_sampling(options: SamplingOptions, teacher: TeacherOptions, train: Split) -> Augmentation:
    from compress.augment.sampling import make_sampling
    from compress.augment.tagger import load_tagger

    mask_token = _mask_token(teacher)
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
