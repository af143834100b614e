"""The transfer set of a task on pairs: neighbours, pairs of a bank and of the task's own texts."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from compress.data.corpus import load_corpus
from compress.data.transfer_set import load_transfer_set
from compress.recipe import load_recipe
from compress.runtime.errors import UserError
from compress.transfer.pairs import Neighbours, joined_pairs, pairs_of_bank
from compress.transfer.selection import select_random
from compress.transfer.stage import make_transfer_set
from tests.tiny_task import write_tsv


def test_neighbours_share_rare_words_and_are_other_texts() -> None:
    texts = [
        "how do i fix a flat tyre",
        "where can i fix a flat tyre",
        "how do i bake bread",
        "is bread healthy",
        "zzz",
    ]
    neighbours = Neighbours(texts).draw(texts, random.Random(0))
    assert neighbours[1] in (texts[0], texts[2])
    assert neighbours[3] == texts[2]
    assert neighbours[4] is None
    assert all(near != text for near, text in zip(neighbours, texts, strict=True))


QUESTIONS = [
    f"how can i {verb} my {thing} number {i}"
    for i in range(5)
    for verb in ("fix", "sell")
    for thing in ("car", "bike", "house")
]
ANSWERS = [question.replace("how can i", "what is the best way to") for question in QUESTIONS]


def test_pairs_of_a_bank_have_neighbours_of_the_length_of_the_tasks_texts() -> None:
    about = [
        f"{verb} a {thing} {i} now and here"
        for i in range(20)
        for verb in ("fix", "sell")
        for thing in ("car", "house")
    ]
    bank = [text for words in about for text in (f"to {words}", f"you may {words} for money")]
    long = [f"{text} " * 5 for text in bank]

    def select(texts: Sequence[str], own: Sequence[str], count: int) -> list[int]:
        return select_random(texts, own, count, seed=0)

    pairs = pairs_of_bank([*bank, *long], (QUESTIONS, ANSWERS), 60, select, random.Random(0))
    assert 40 < len(pairs) <= 60
    kinds = Counter((first in QUESTIONS, second in ANSWERS) for first, second in pairs)
    assert min(kinds[kind] for kind in ((False, False), (True, False), (False, True))) > 10
    assert kinds[True, True] == 0
    assert all(set(first.split()) & set(second.split()) for first, second in pairs)
    assert not any(text in long for pair in pairs for text in pair)
    with pytest.raises(UserError, match=r"transfer\.bank: no text of it has \d+ to \d+ words"):
        pairs_of_bank(long, (QUESTIONS, ANSWERS), 60, select, random.Random(0))


def test_joined_pairs_are_of_texts_of_different_pairs() -> None:
    pairs = joined_pairs(QUESTIONS, ANSWERS, 200, random.Random(0))
    assert 150 < len(pairs) <= 200
    assert all(first in QUESTIONS and second in ANSWERS for first, second in pairs)
    assert not set(pairs) & set(zip(QUESTIONS, ANSWERS, strict=True))
    assert joined_pairs(["a"], ["b"], 5, random.Random(0)) == []


def test_where_there_is_no_bank_none_is_blamed_for_a_set_without_texts(tmp_path: Path) -> None:
    """All second texts are equal, so that no pair of two others can be made."""
    rows = [(question, "the same answer", "xy"[i % 2]) for i, question in enumerate(QUESTIONS)]
    write_tsv(tmp_path / "train.tsv", rows, ("a", "b", "label"))
    data = '[data]\ntrain = "train.tsv"\ndev = "train.tsv"\ntext = "a"\ntext_b = "b"\n'
    (tmp_path / "task.toml").write_text(f"{data}[transfer]\njoined = 9\n", encoding="utf-8")
    recipe = load_recipe(tmp_path / "task.toml")
    with pytest.raises(UserError, match=r"^transfer: nothing could be made of the task's own texts"):
        make_transfer_set(recipe, load_corpus(recipe.target), tmp_path)


@pytest.mark.parametrize("bank", ["single.txt", "pairs.tsv"])
def test_a_task_on_pairs_gets_pairs_without_what_is_in_dev(tmp_path: Path, bank: str) -> None:
    dev = ("where is the old red house of mine", "who can sell a house")
    own = list(zip(QUESTIONS, ANSWERS, strict=True))
    header = ("a", "b", "label")
    write_tsv(tmp_path / "train.tsv", [(*pair, "xy"[i % 2]) for i, pair in enumerate(own)], header)
    write_tsv(tmp_path / "dev.tsv", [(*dev, "x"), (*dev, "y")], header)
    further = [
        (f"how can i paint my {thing}", f"what is the best way to paint my {thing}") for thing in ("car", "bike")
    ]
    write_tsv(tmp_path / "pairs.tsv", [*own[5:], *further, (further[0][0], dev[0])], header[:2])
    lines = [text for pair in [*own[5:], *further, dev] for text in pair]
    (tmp_path / "single.txt").write_text("\n".join(lines), encoding="utf-8")
    data = '[data]\ntrain = "train.tsv"\ndev = "dev.tsv"\ntext = "a"\ntext_b = "b"\n'
    (tmp_path / "task.toml").write_text(
        f'{data}[transfer]\nbank = "{bank}"\ntexts = 20\njoined = 20\n', encoding="utf-8"
    )
    recipe = load_recipe(tmp_path / "task.toml")
    make_transfer_set(recipe, load_corpus(recipe.target), tmp_path)
    chosen = load_transfer_set(tmp_path)
    assert chosen.texts_b is not None
    assert 25 <= len(chosen) == len(chosen.texts_b) <= 40
    assert not {*chosen.texts, *chosen.texts_b} & set(dev)
    if bank == "pairs.tsv":
        drawn = list(zip(chosen.texts, chosen.texts_b, strict=True))[:20]
        assert set(drawn) <= {*own, *further}  # as they are in the table
