"""The stage that chooses the texts of the transfer set."""

from __future__ import annotations

import json
import random
from pathlib import Path

from compress.console import console
from compress.data.contamination import HeldOutIndex
from compress.data.corpus import UNLABELLED, Corpus, Split
from compress.recipe import Recipe
from compress.runtime.errors import UserError
from compress.transfer.bank import read_bank
from compress.transfer.joined import joined_texts
from compress.transfer.selection import select_similar

TEXTS = "texts.jsonl"


def make_transfer_set(recipe: Recipe, corpus: Corpus, directory: Path) -> None:
    """Write the texts of the transfer set to `texts.jsonl`, a JSON string a line.

    Texts of the bank that equal a dev or test text, or share a run of five words with one, are left out.

    :param corpus: what the student is for.
    :raises UserError: the bank cannot be read, or has no text to use.
    """
    own = corpus.splits["train"].texts
    rng = random.Random(f"transfer/{recipe.seed}")
    texts = _drawn(recipe, corpus, own) if recipe.transfer.texts else []
    texts += joined_texts(own, recipe.transfer.joined, rng)
    with (directory / TEXTS).open("w", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(text, ensure_ascii=False)}\n" for text in texts)


def load_transfer_set(directory: Path) -> Split:
    """The texts that `make_transfer_set` wrote, without labels."""
    with (directory / TEXTS).open(encoding="utf-8") as file:
        texts = [json.loads(line) for line in file]
    return Split(texts, None, [UNLABELLED] * len(texts), None)


def _drawn(recipe: Recipe, corpus: Corpus, own: list[str]) -> list[str]:
    """Texts of the bank that share nothing with dev or test."""
    options = recipe.transfer
    held_out = HeldOutIndex(
        text
        for name, split in corpus.splits.items()
        if name != "train"
        for text in (*split.texts, *(split.texts_b or []))
    )
    bank = read_bank(options.bank, recipe.target)
    clean = [text for text in bank if held_out.find([text]) is None]
    if not clean:
        raise UserError(f"transfer.bank: {options.bank} has no text that could be used")
    if options.select == "similar":
        rows = select_similar(clean, own, options.texts, recipe.seed)
    else:
        rows = sorted(random.Random(f"bank/{recipe.seed}").sample(range(len(clean)), min(options.texts, len(clean))))
    console.print(
        f"  {len(rows):,} of {len(bank):,} texts of the bank ({options.select}); "
        f"{len(bank) - len(clean):,} left out, since they share words with dev or test"
    )
    return [clean[row] for row in rows]
