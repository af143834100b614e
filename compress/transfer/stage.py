"""The stage that chooses the texts of the transfer set."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from transformers import AutoModel

from compress.augment.example import examples
from compress.augment.neighbours import make_neighbour_replacement
from compress.console import console
from compress.data.contamination import HeldOutIndex
from compress.data.corpus import Corpus, Split
from compress.data.transfer_set import write_examples
from compress.recipe import Recipe
from compress.runtime.errors import UserError
from compress.teachers.checkpoint import open_tokenizer, open_weights
from compress.transfer.bank import read_bank
from compress.transfer.joined import joined_texts
from compress.transfer.pairs import joined_pairs, pairs_of_bank
from compress.transfer.sampled import sampled_texts
from compress.transfer.selection import select_random, select_similar

TRIED = 5_000_000  # bytes of a user's bank that are drawn from in a few seconds


def check_bank(recipe: Recipe, corpus: Corpus) -> None:
    """Draw from a user's bank as the stage will, so that one without a text to draw is refused in the preflight.

    A bank of more than `TRIED` bytes is left to the stage, which comes before every training too.

    :param corpus: what the student is for.
    :raises UserError: as `make_transfer_set`.
    """
    options = recipe.transfer
    if options.texts and options.bank != "embedded" and Path(options.bank).stat().st_size <= TRIED:
        with console.capture():  # the stage will say the same
            drawn = _drawn(recipe, corpus, corpus.splits["train"])
        if not drawn and options.size == options.texts:
            raise _nothing_similar(options.bank)


def make_transfer_set(recipe: Recipe, corpus: Corpus, directory: Path) -> None:
    """Choose the texts of the transfer set and write them, see `compress.data.transfer_set`.

    What is in the bank and equals a dev or test text, or shares a run of five words with one, is left out.

    :param corpus: what the student is for.
    :raises UserError: the bank cannot be read or has no text to use, or no text can be made of the task's own.
    """
    own = corpus.splits["train"]
    found: list[Sequence[str]] = [*_drawn(recipe, corpus, own)] if recipe.transfer.texts else []
    rng = random.Random(f"transfer/{recipe.seed}")
    if recipe.transfer.sampled:
        found += _sampled(recipe, own)
    if own.texts_b is None:
        found += [[text] for text in joined_texts(own.texts, recipe.transfer.joined, rng)]
    elif recipe.transfer.joined:
        found += joined_pairs(own.texts, own.texts_b, recipe.transfer.joined, rng)
    if recipe.transfer.replaced:
        found += _replaced(recipe, own)
    if not found:
        if recipe.transfer.texts:
            raise _nothing_similar(recipe.transfer.bank)
        raise UserError(
            "transfer: nothing could be made of the task's own texts by sampled, joined or replaced; set transfer.texts for texts of a bank, or "
            "remove the section"
        )
    write_examples(found, directory)


def _nothing_similar(bank: str) -> UserError:
    return UserError(
        f"transfer.bank: no text of {bank} resembles the task's own; give another one, remove transfer.texts, "
        'or draw at random (transfer.select = "random")'
    )


def _sampled(recipe: Recipe, own: Split) -> list[list[str]]:
    """Texts sampled from the words of the task's own; fewer than asked for of a small table."""
    found = [
        [text] for text in sampled_texts(own.texts, recipe.transfer.sampled, random.Random(f"sampled/{recipe.seed}"))
    ]
    short = (
        f"; {recipe.transfer.sampled:,} were asked for, but the others are copies"
        if len(found) < recipe.transfer.sampled
        else ""
    )
    console.print(f"  {len(found):,} texts sampled from the words of {len(own):,}{short}")
    return found


def _replaced(recipe: Recipe, own: Split) -> Iterator[list[str]]:
    """Texts of the task in which words were replaced; those in which none could be are left out."""
    model, _ = open_weights(AutoModel, recipe.teacher)
    tokenizer = open_tokenizer(recipe.teacher).backend_tokenizer
    augment = make_neighbour_replacement(tokenizer, model.get_input_embeddings().weight)
    originals, rng, count = list(examples(own)), random.Random(f"replaced/{recipe.seed}"), recipe.transfer.replaced
    passes = (rng.sample(originals, min(len(originals), count - start)) for start in range(0, count, len(originals)))
    chosen = [example for part in passes for example in part]
    changed = [new.sides for old, new in zip(chosen, augment(chosen, rng), strict=True) if new.sides != old.sides]
    console.print(f"  {len(changed):,} texts with words replaced by near ones")
    yield from changed


def _drawn(recipe: Recipe, corpus: Corpus, own: Split) -> Sequence[Sequence[str]]:
    """What is drawn from the bank; it shares nothing with dev or test."""
    options = recipe.transfer
    held_out = HeldOutIndex(
        text
        for name, split in corpus.splits.items()
        if name != "train"
        for text in (*split.texts, *(split.texts_b or []))
    )
    bank = read_bank(options.bank, recipe.target)
    clean = [texts for texts in bank if held_out.find(texts) is None]
    if not clean:
        raise UserError(f"transfer.bank: {options.bank} has no text that could be used")
    select = partial(select_similar if options.select == "similar" else select_random, seed=recipe.seed)
    singles = [texts[0] for texts in clean]
    drawn: Sequence[Sequence[str]]
    if own.texts_b is not None and len(clean[0]) == 1:
        rng = random.Random(f"pairs/{recipe.seed}")
        drawn = pairs_of_bank(singles, (own.texts, own.texts_b), options.texts, select, rng)
        what = "pairs made from"
    else:
        examples = zip(own.texts, own.texts_b, strict=True) if own.texts_b else zip(own.texts, strict=True)
        rows = select([*map(" ".join, clean)], [*map(" ".join, examples)], options.texts)
        drawn, what = [clean[row] for row in rows], "of"
    short = options.select == "similar" and len(drawn) < min(options.texts, len(clean))
    console.print(
        f"  {len(drawn):,} {what} {len(bank):,} texts of the bank ({options.select}); "
        f"{len(bank) - len(clean):,} left out, since they share words with dev or test"
        + (f"; {options.texts:,} were asked for, but the others are too far from the task" if short else "")
    )
    return drawn
