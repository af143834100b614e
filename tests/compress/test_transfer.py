"""The transfer set: which texts it holds, and how the student's training takes them."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from compress.data.batches import EncodedSplit, LengthBatches, SoftTargets, with_transfer_set
from compress.pipeline.run import compress
from compress.pipeline.workspace import Workspace
from compress.recipe import load_recipe
from compress.recipe.sections import DataOptions
from compress.runtime.encode import Encoded
from compress.runtime.errors import UserError
from compress.transfer.bank import read_bank, sentences
from compress.transfer.joined import joined_texts
from compress.transfer.selection import importance, select_similar
from compress.transfer.stage import load_transfer_set
from tests.tiny_task import sentences as labelled_sentences
from tests.tiny_task import tiny_recipe

FILMS = [f"the film number {i} was dull and the plot was poor" for i in range(40)]
WEATHER = [f"rain is expected in region {i} on monday with wind from the west" for i in range(400)]
FILM_TALK = [f"a film about {i} people whose plot was fine" for i in range(60)]


def test_texts_that_resemble_the_task_are_drawn_first() -> None:
    rows = select_similar([*WEATHER, *FILM_TALK], FILMS, 50, seed=0)
    assert len(set(rows)) == 50
    assert sum(row >= len(WEATHER) for row in rows) >= 45  # at random it would be seven
    assert rows == select_similar([*WEATHER, *FILM_TALK], FILMS, 50, seed=0)
    assert rows != select_similar([*WEATHER, *FILM_TALK], FILMS, 50, seed=1)
    assert select_similar(FILM_TALK, FILMS, 1000, seed=0) == list(range(len(FILM_TALK)))


def test_the_weight_of_a_text_does_not_grow_with_its_length_alone() -> None:
    short, long = "the plot was poor", " ".join(["the plot was poor"] * 16)
    weights = importance([short, long, *WEATHER], FILMS)
    assert 1 < weights[1] / weights[0] < 8  # the sum that the paper takes would be sixteen times as large


def test_joined_texts_are_spans_of_several_texts() -> None:
    texts = [f"{word} " * 10 for word in ("red", "green", "blue", "white")]
    joined = list(joined_texts(texts, 50, random.Random(0)))
    assert len(joined) == 50
    assert {len(set(text.split())) for text in joined} == {2, 3}
    assert all(set(text.split()) <= {"red", "green", "blue", "white"} for text in joined)
    assert list(joined_texts([], 5, random.Random(0))) == []


def test_sentences_of_a_bank_are_whole_and_without_links() -> None:
    text = (
        "It rained all day. “Nobody” came to see it! “12 34 56 78 90.” Read more at http://a.b/c now please. Too short."
    )
    assert list(sentences(text)) == ["It rained all day.", "“Nobody” came to see it!", "Read more at now please."]


def test_a_bank_may_be_lines_or_a_table(tmp_path: Path) -> None:
    (tmp_path / "bank.txt").write_text("\ufeffone text\n\nanother text\nOne text\n", encoding="utf-8")
    with gzip.open(tmp_path / "bank.txt.gz", "wt", encoding="utf-8") as file:
        file.write("packed text\n")
    (tmp_path / "bank.tsv").write_text("id\tbody\n1\tfrom a table\n", encoding="utf-8")
    options = DataOptions(train=tmp_path / "t.tsv", text="body")
    assert read_bank(str(tmp_path / "bank.txt"), options) == ["One text", "another text"]
    assert read_bank(str(tmp_path / "bank.txt.gz"), options) == ["packed text"]
    assert read_bank(str(tmp_path / "bank.tsv"), options) == ["from a table"]
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(UserError, match=r"transfer\.bank: .*bad\.txt: not a readable text file"):
        read_bank(str(tmp_path / "bad.txt"), options)


def test_the_embedded_bank_has_sentences_of_talk_news_debates_and_tweets(tmp_path: Path) -> None:
    texts = read_bank("embedded", DataOptions(train=tmp_path / "t.tsv"))
    assert len(texts) == len({text.casefold() for text in texts}) == 391_946  # the packages are pinned
    assert all(4 <= len(text.split()) <= 60 and "http" not in text for text in texts[::100])
    assert {
        "Babies' eye movement autism link",
        "Guangzhou Port seeks finance for expansion",
        "Rock climbing is so much fun!!!",
        "The Conservatives are committed to reform.",
    } <= set(texts)


def test_an_epoch_has_all_own_texts_and_its_share_of_the_transfer_set() -> None:
    lengths = [5] * 30 + [7] * 100  # the last hundred are the transfer set
    batches = LengthBatches(lengths, 8, shuffle=True, seed=3, transfer=100, share=0.6)
    seen: list[list[int]] = []
    for epoch in range(5):
        batches.start_at(epoch)
        rows = [row for batch in batches for row in batch]
        assert len(list(batches)) == len(batches)
        assert sorted(row for row in rows if row < 30) == list(range(30))
        seen.append([row for row in rows if row >= 30])
        assert len(seen[-1]) == 45  # 30 · 0.6 / 0.4
    # The first hundred that were taken are all of them; nothing comes twice before everything came once.
    assert len({*seen[0], *seen[1]}) == 90
    assert len({row for rows in seen for row in rows}) == 100
    batches.start_at(2, skip=3)
    rest = [row for batch in batches for row in batch]
    batches.start_at(2)
    assert rest == [row for batch in list(batches)[3:] for row in batch]  # a resumed run sees the same


def test_an_epoch_of_so_many_batches_carries_on_where_the_last_one_ended() -> None:
    lengths = [5 + i % 3 for i in range(30)]
    passes = LengthBatches(lengths, 8, shuffle=True, seed=3)  # four batches each
    endless: list[list[int]] = []
    for number in range(5):
        passes.start_at(number)
        endless += list(passes)
    epochs = LengthBatches(lengths, 8, shuffle=True, seed=3, length=7)
    assert len(epochs) == 7
    for number in range(2):
        epochs.start_at(number)
        assert list(epochs) == endless[7 * number : 7 * number + 7]
    epochs.start_at(1, skip=4)
    assert list(epochs) == endless[11:14]


def split(count: int, probes: int | None) -> EncodedSplit:
    ids = [np.arange(3, dtype=np.int64) + i for i in range(count)]
    encoded = [Encoded(i, np.zeros(3, np.int64), np.zeros(3, np.int64)) for i in ids]
    logits = torch.randn(count, 2)
    targets = SoftTargets(logits, None if probes is None else torch.randn(count, probes, 2))
    return EncodedSplit(encoded, logits.argmax(dim=1), 0, teacher=targets)


def test_the_teachers_head_answers_for_all_probes_of_the_transfer_set() -> None:
    own, further = split(4, 3), split(5, None)
    both = with_transfer_set(own, further)
    assert both.teacher is not None
    assert both.teacher.probes is not None
    assert torch.equal(both.teacher.probes[:4], own.teacher.probes)  # type: ignore[union-attr,arg-type]
    assert all(torch.equal(both.teacher.probes[4:, layer], further.teacher.logits) for layer in range(3))  # type: ignore[union-attr]
    assert with_transfer_set(split(4, None), further).teacher.probes is None  # type: ignore[union-attr]


def test_a_student_hears_its_teacher_on_a_bank(tmp_path: Path) -> None:
    recipe_file = tiny_recipe(tmp_path, rows=120)
    dev = labelled_sentences(100, seed=1)[0][0]  # one of the dev texts
    bank = [text for text, _ in labelled_sentences(300, seed=8)] + [dev]
    (tmp_path / "bank.txt").write_text("\n".join(bank), encoding="utf-8")
    settings = ['student.architecture="residual"', "teacher.epochs=2", "compress.epochs=2"]
    with_bank = [*settings, f"transfer.bank={tmp_path / 'bank.txt'}", "transfer.texts=150", "transfer.joined=30"]
    text = recipe_file.read_text(encoding="utf-8")
    recipe_file.write_text(text.replace("[search]\nepochs = 1\ntrials = 5\ntrial_steps = 10\n", ""), encoding="utf-8")
    workspace = Workspace(tmp_path / "artifacts")
    student = compress(load_recipe(recipe_file, with_bank), workspace)
    chosen = load_transfer_set(workspace.root / "transfer_set")
    assert dev not in chosen.texts
    assert len(chosen) <= 180
    first = (student / "model.safetensors").read_bytes()
    # It is another student than without, and the same again from the same texts.
    alone = compress(load_recipe(recipe_file, settings), Workspace(tmp_path / "alone"))
    assert (alone / "model.safetensors").read_bytes() != first
    assert not (tmp_path / "alone" / "transfer_set").exists()
    again = compress(load_recipe(recipe_file, with_bank), workspace, force=True)
    assert (again / "model.safetensors").read_bytes() == first


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["data.text_b=b"], "transfer: the texts of a transfer set are single"),
        (["compress.preset=none"], "the teacher labels these texts"),
        (["compress.preset=l2a"], "l2a's selector and a transfer set"),
        (["teacher.method=meta"], "needs the domain of each text"),
        (["transfer.share=1"], "less than 1"),
    ],
)
def test_what_a_transfer_set_cannot_do_is_refused(tmp_path: Path, settings: list[str], message: str) -> None:
    (tmp_path / "task.toml").write_text("[transfer]\njoined = 10\n", encoding="utf-8")
    with pytest.raises(UserError, match=message):
        load_recipe(tmp_path / "task.toml", settings)


def test_a_bank_that_is_not_there_is_named(tmp_path: Path) -> None:
    recipe = load_recipe(tiny_recipe(tmp_path), ["transfer.bank=absent.txt", "transfer.texts=5"])
    with pytest.raises(UserError, match=r"transfer\.bank: .*absent\.txt: no such file; give embedded or a file"):
        compress(recipe, Workspace(tmp_path / "artifacts"))
