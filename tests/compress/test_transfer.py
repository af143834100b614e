"""The transfer set: which texts it holds, and how the student's training takes them."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from compress.data.batches import EncodedSplit, LengthBatches, SoftTargets, with_transfer_set
from compress.data.corpus import load_corpus
from compress.data.transfer_set import load_transfer_set
from compress.distil.task import StudentTask
from compress.pipeline.run import compress
from compress.pipeline.workspace import Workspace
from compress.recipe import load_recipe
from compress.recipe.sections import DataOptions
from compress.runtime.encode import Encoded
from compress.runtime.errors import UserError
from compress.search.texts import search_texts
from compress.transfer.bank import read_bank, sentences
from compress.transfer.joined import joined_texts
from compress.transfer.sampled import Trigrams, sampled_texts
from compress.transfer.selection import importance, select_random, select_similar
from compress.transfer.stage import make_transfer_set
from tests.tiny_task import sentences as labelled_sentences
from tests.tiny_task import tiny_recipe, write_tsv


def talk(words: str, count: int, seed: int) -> list[str]:
    """Texts of random words."""
    rng = random.Random(seed)
    return [" ".join(rng.choices(words.split(), k=12)) for _ in range(count)]


FILMS = talk("film plot actor scene dull poor fine story the was and", 100, 0)
FILM_TALK = talk("film plot actor scene dull poor fine story the was and", 60, 1)
WEATHER = talk("rain wind cloud west east monday cold warm is and the expected", 400, 2)


def test_texts_that_resemble_the_task_are_drawn_first() -> None:
    rows = select_similar([*WEATHER, *FILM_TALK], FILMS, 20, seed=0)
    assert len(set(rows)) == 20
    assert all(row >= len(WEATHER) for row in rows)
    assert rows == select_similar([*WEATHER, *FILM_TALK], FILMS, 20, seed=0)
    assert rows != select_similar([*WEATHER, *FILM_TALK], FILMS, 20, seed=1)


def test_texts_that_are_farther_from_the_task_than_its_own_are_never_drawn() -> None:
    bank = [*WEATHER, *FILM_TALK]
    assert set(select_similar(bank, FILMS, 1000, seed=0)) <= set(range(len(WEATHER), len(bank)))
    assert select_similar(WEATHER, FILMS, 10, seed=0) == []
    assert len(select_random(bank, FILMS, 1000, seed=0)) == len(bank)


def test_the_weight_of_a_text_does_not_grow_with_its_length_alone() -> None:
    short, long = "the plot was poor", " ".join(["the plot was poor"] * 16)
    weights, others = importance([short, long, *WEATHER], FILMS, [long, short])
    assert 1 < weights[1] / weights[0] < 8  # the sum that the paper takes would be sixteen times as large
    assert others.tolist() == weights[1::-1].tolist()


def test_every_three_words_of_a_sampled_text_follow_each_other_in_the_texts() -> None:
    texts = ["book a table for two", "book a room for two nights", "is a room for two free", "two nights, please"]
    whole = [f"^ {text} $" for text in texts]
    sampled = list(sampled_texts(texts, 5, random.Random(0)))
    assert 0 < len(sampled) == len(set(sampled))
    assert not set(sampled) & set(texts)
    for text in sampled:
        words = f"^ {text} $".split()
        assert all(any(" ".join(words[i : i + 3]) in known for known in whole) for i in range(len(words) - 2))
    assert sampled == list(sampled_texts(texts, 5, random.Random(0)))


def test_of_texts_that_share_no_two_words_nothing_new_can_be_sampled() -> None:
    assert list(sampled_texts(["one text here", "another two words"], 5, random.Random(0))) == []
    assert list(sampled_texts([], 5, random.Random(0))) == []
    assert list(sampled_texts(["one"], 5, random.Random(0))) == []


def test_a_sampled_word_follows_two_others_as_often_as_in_the_texts() -> None:
    model = Trigrams(["we like tea"] * 3 + ["we like milk"])
    rng = random.Random(0)
    last = [model.sample(rng)[-1] for _ in range(400)]
    assert 0.7 < last.count("tea") / 400 < 0.8
    assert max(len(Trigrams(["a b a b a b"]).sample(rng)) for _ in range(50)) == 6  # no longer than the longest text


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
    for link in ("http://t.co/Ab1", "https://…", "http:/…", "http: ...", "http ..."):
        assert list(sentences(f"Can dogs spread Ebola? {link}")) == ["Can dogs spread Ebola?"]


def test_a_bank_may_be_lines_or_a_table(tmp_path: Path) -> None:
    (tmp_path / "bank.txt").write_text("\ufeffone text\n\nanother text\nOne text\n", encoding="utf-8")
    with gzip.open(tmp_path / "bank.txt.gz", "wt", encoding="utf-8") as file:
        file.write("packed text\n")
    (tmp_path / "bank.tsv").write_text("id\tbody\n1\tfrom a table\n", encoding="utf-8")
    options = DataOptions(train=tmp_path / "t.tsv", text="body")
    assert read_bank(str(tmp_path / "bank.txt"), options) == [("One text",), ("another text",)]
    assert read_bank(str(tmp_path / "bank.txt.gz"), options) == [("packed text",)]
    assert read_bank(str(tmp_path / "bank.tsv"), options) == [("from a table",)]
    pairs = DataOptions(train=tmp_path / "t.tsv", text="id", text_b="body")
    assert read_bank(str(tmp_path / "bank.tsv"), pairs) == [("1", "from a table")]
    assert read_bank(str(tmp_path / "bank.txt"), pairs)[0] == ("One text",)
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(UserError, match=r"bad\.txt: is in UTF-16"):
        read_bank(str(tmp_path / "bad.txt"), options)


def test_the_embedded_bank_has_sentences_of_talk_news_debates_and_tweets(tmp_path: Path) -> None:
    texts = [text for (text,) in read_bank("embedded", DataOptions(train=tmp_path / "t.tsv"))]
    assert len(texts) == len({text.casefold() for text in texts}) == 391_920  # the packages are pinned
    assert all(4 <= len(text.split()) <= 60 and "http" not in text for text in texts)
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


def test_a_small_transfer_set_is_not_repeated_within_a_pass() -> None:
    batches = LengthBatches([5] * 130, 8, shuffle=True, seed=3, transfer=10, share=0.6)
    rows = [row for batch in batches for row in batch]
    assert sorted(rows) == list(range(130))


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


def test_weights_and_domains_of_a_meta_teachers_texts_stay_beside_them() -> None:
    own, further = (split(n, None).with_weights(torch.rand(n)).with_domains(torch.full((n,), n)) for n in (4, 5))
    both = with_transfer_set(own, further).batch([3, 4])
    assert both.weights is not None
    assert both.weights.tolist() == [float(own.weights[3]), float(further.weights[0])]  # type: ignore[index]
    assert both.domain_numbers.tolist() == [4, 5]


def test_a_search_learns_no_phrase_of_a_text_that_it_holds_out() -> None:
    def text(*ids: int) -> Encoded:
        tokens = np.array([1, *ids, 2], dtype=np.int64)
        return Encoded(tokens, np.zeros_like(tokens), np.zeros_like(tokens))

    own = [text(*range(10 * i, 10 * i + 8)) for i in range(10, 30)]
    joined = [text(*range(10 * i, 10 * i + 5), 7, 7, 7) for i in range(10, 30)]
    encoded = [*own, *joined, *[text(3, 4, 5)] * 10]
    train = EncodedSplit(encoded, torch.zeros(50, dtype=torch.int64), 0)
    task = StudentTask(
        train=train,
        labelled=20,
        transfer=30,
        share=0.5,
        groups=list(range(20)),
        dev=train,
        labels=["a", "b"],
        pair=False,
        embeddings=torch.zeros(1),
        seed=0,
    )
    texts = search_texts(task)
    assert (len(texts.held_out), texts.own, texts.transfer) == (4, 16, 16 + 10)
    held_out = {int(text.input_ids[1]) for text in texts.held_out.encoded}
    assert not held_out & {int(text.input_ids[1]) for text in texts.learned.encoded}
    batches = [batch.tolist() for batch in (b.index for b in texts.batches(4, seed=0, steps=6))]
    assert len(batches) == 6
    rows = [row for batch in batches for row in batch]
    assert 8 <= sum(row >= 16 for row in rows) <= 16  # half of them


def test_a_student_hears_its_teacher_on_a_bank(tmp_path: Path) -> None:
    recipe_file = tiny_recipe(tmp_path, rows=120)
    dev = labelled_sentences(100, seed=1)[0][0]  # one of the dev texts
    bank = [text for text, _ in labelled_sentences(300, seed=8)] + [dev]
    (tmp_path / "bank.txt").write_text("\n".join(bank), encoding="utf-8")
    settings = ["teacher.epochs=2", "compress.epochs=2", "search.trials=2"]
    with_bank = [*settings, f"transfer.bank={tmp_path / 'bank.txt'}", "transfer.texts=150", "transfer.joined=30"]
    with_bank += ["transfer.replaced=40", "transfer.sampled=20"]
    workspace = Workspace(tmp_path / "artifacts")
    student = compress(load_recipe(recipe_file, with_bank), workspace)
    chosen = load_transfer_set(workspace.root / "transfer_set")
    assert dev not in chosen.texts
    assert len(chosen) <= 240
    first = (student / "model.safetensors").read_bytes()
    # It is another student than without, and the same again from the same texts.
    alone = compress(load_recipe(recipe_file, settings), Workspace(tmp_path / "alone"))
    assert (alone / "model.safetensors").read_bytes() != first
    assert not (tmp_path / "alone" / "transfer_set").exists()
    again = compress(load_recipe(recipe_file, with_bank), workspace, force=True)
    assert (again / "model.safetensors").read_bytes() == first


@pytest.mark.parametrize("pair", [False, True])
def test_words_are_replaced_by_near_ones(tmp_path: Path, pair: bool) -> None:
    file, settings = tiny_recipe(tmp_path, rows=40), ["transfer.replaced=90"]
    if pair:
        settings.append("data.text_b=text_b")
        for split in ("train", "dev"):
            rows = [(text, f"{text} and too", label) for text, label in labelled_sentences(40, seed=split == "dev")]
            write_tsv(tmp_path / f"{split}.tsv", rows, ("text", "text_b", "label"))
    recipe = load_recipe(file, settings)
    corpus = load_corpus(recipe.target)
    make_transfer_set(recipe, corpus, tmp_path)
    made, own = load_transfer_set(tmp_path), corpus.splits["train"]
    assert 45 <= len(made) <= 90  # of 40 texts, so each is taken twice or more; those without a change are left out
    vocabulary = set((tmp_path / "bert" / "vocab.txt").read_text(encoding="utf-8").split())

    def changed(new: str) -> set[str]:
        """The words that replaced others in the text of the same words otherwise."""
        words = new.split()
        found = [
            {a for a, b in zip(words, text.split(), strict=True) if a != b}
            for text in (*own.texts, *(own.texts_b or []))
            if len(text.split()) == len(words)
        ]
        return min(found, key=len)

    for text in made.texts:
        assert changed(text) <= vocabulary
    assert any(changed(text) for text in made.texts)
    assert (made.texts_b is not None) is pair
    make_transfer_set(recipe, corpus, tmp_path)
    assert load_transfer_set(tmp_path).texts == made.texts


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["compress.preset=none"], "the teacher labels these texts"),
        (["transfer.share=1"], "less than 1"),
        (
            ["data.train=t.tsv", "data.domain=d", "teacher.method=meta", "transfer.judge=int8"],
            "labels as it was trained",
        ),
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
