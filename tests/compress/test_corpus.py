import gzip
import json
from pathlib import Path

import pytest

from compress.data.corpus import UNLABELLED, Corpus, load_corpus
from compress.data.tables import normalise
from compress.recipe.sections import DataOptions
from compress.runtime.errors import UserError
from tests.tiny_task import sentences, write_tsv


def load(train: Path, **options: object) -> Corpus:
    return load_corpus(DataOptions.model_validate({"source": "files", "train": train, **options}))


def test_a_single_table_is_split_in_three_without_sharing_a_text(tmp_path: Path) -> None:
    rows = sentences(300)
    # Every text twice, the copy in another case: both must land on one side.
    corpus = load(write_tsv(tmp_path / "t.tsv", rows + [(text.upper() + "!", label) for text, label in rows]))
    texts = {name: {normalise(text) for text in split.texts} for name, split in corpus.splits.items()}
    assert set(texts) == {"train", "dev", "test"}
    assert not texts["train"] & texts["dev"]
    assert not texts["train"] & texts["test"]
    assert not texts["dev"] & texts["test"]
    assert sum(map(len, corpus.splits.values())) == 600
    assert 30 <= len(corpus.splits["dev"]) <= 90


def test_words_that_differ_in_a_mark_are_different_texts() -> None:
    rice, news = "ข้าว", "ข่าว"  # Thai, with two tones
    assert normalise(rice) != normalise(news)
    assert normalise("अच्छी!") != normalise("अच्छा")  # good, of a woman and of a man
    assert normalise("It’s a ½-CAFÉ, snake_case!") == normalise("it's a ½ café snake_case")


def test_a_row_added_moves_no_other_row(tmp_path: Path) -> None:
    rows = sentences(200)
    before = load(write_tsv(tmp_path / "a.tsv", rows)).splits["dev"].texts
    after = load(write_tsv(tmp_path / "b.tsv", [("something new entirely", "positive"), *rows])).splits["dev"].texts
    assert set(before) <= set(after)


def test_dev_given_and_no_test_reports_dev(tmp_path: Path) -> None:
    train, dev = write_tsv(tmp_path / "t.tsv", sentences(50)), write_tsv(tmp_path / "d.tsv", sentences(20, seed=3))
    corpus = load(train, dev=dev)
    assert set(corpus.splits) == {"train", "dev"}
    assert corpus.report_split == "dev"
    assert len(corpus.splits["train"]) == 50


@pytest.mark.parametrize("kind", ["tsv", "tsv.gz", "csv", "jsonl", "parquet"])
def test_every_kind_of_table_reads_the_same(tmp_path: Path, kind: str) -> None:
    from pyarrow import csv, parquet
    from pyarrow import table as columns

    rows = [('he said "no, thanks"', "0"), ("NA", "1"), ("null, she wrote", "0"), ("fine", "10")]
    table = columns({"text": [text for text, _ in rows], "label": [label for _, label in rows]})
    path = tmp_path / f"t.{kind}"
    if kind == "tsv":
        write_tsv(path, rows)
    elif kind == "tsv.gz":
        path.write_bytes(gzip.compress(write_tsv(tmp_path / "plain.tsv", rows).read_bytes()))
    elif kind == "csv":
        csv.write_csv(table, path)
    elif kind == "jsonl":
        path.write_text("\n".join(json.dumps({"text": text, "label": int(label)}) for text, label in rows))
    else:
        parquet.write_table(table, path)
    corpus = load(path, dev=path)
    assert corpus.splits["train"].texts == [text for text, _ in rows]
    assert corpus.labels == ["0", "1", "10"]  # numbers in their own order
    assert corpus.splits["train"].labels == [0, 1, 0, 2]


def test_pairs_and_domains(tmp_path: Path) -> None:
    rows = [("a b", "c d", "yes", "x"), ("e f", "g h", "no", "y")]
    path = write_tsv(tmp_path / "t.tsv", rows, ("one", "two", "label", "genre"))
    corpus = load(path, dev=path, text="one", text_b="two", domain="genre")
    assert corpus.pair
    assert corpus.splits["dev"].texts_b == ["c d", "g h"]
    assert corpus.splits["dev"].domains == ["x", "y"]


BAD_TABLES = [
    ("", "empty"),
    ("text\tlabel\n", "no rows"),
    ("texts\tlabel\na\tb\n", "no column 'text'"),
    ("text\tlabel\nfine\tx\n\ty\n", "line 3"),
    ("text\tlabel\nfine\t\nbad\ty\n", "line 2"),
    ("text\tlabel\n   \tx\nbad\ty\n", "line 2"),
    ("text\tlabel\nfine\tx\nbad\tx\n", "one class only"),
]


@pytest.mark.parametrize(("content", "expected"), BAD_TABLES)
def test_a_bad_table_is_told_with_file_and_line(tmp_path: Path, content: str, expected: str) -> None:
    path = tmp_path / "t.tsv"
    path.write_text(content)
    good = write_tsv(tmp_path / "d.tsv", [("x", "x"), ("y", "y")])
    with pytest.raises(UserError, match=expected) as caught:
        load(path, dev=good)
    assert "\n" not in str(caught.value)


def test_a_label_that_train_never_had(tmp_path: Path) -> None:
    train = write_tsv(tmp_path / "t.tsv", [("a", "x"), ("b", "y")])
    dev = write_tsv(tmp_path / "d.tsv", [("c", "z")])
    with pytest.raises(UserError, match="'z'"):
        load(train, dev=dev)
    with pytest.raises(UserError, match="train never had"):
        load(train, dev=dev, labels=["x", "y", "z"])


def test_missing_and_unknown_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load(tmp_path / "absent.tsv")
    odd = tmp_path / "t.xlsx"
    odd.write_text("x")
    with pytest.raises(UserError, match="unknown kind"):
        load(odd)
    broken = tmp_path / "t.parquet"
    broken.write_text("not parquet")
    with pytest.raises(UserError, match="cannot be read"):
        load(broken)


def test_texts_that_no_label_is_used_of_are_unlabelled(tmp_path: Path) -> None:
    train = write_tsv(tmp_path / "t.tsv", sentences(100))
    dev = write_tsv(tmp_path / "d.tsv", sentences(20, seed=3))
    assert load(train, dev=dev).unlabelled is None
    cut = load(train, dev=dev, train_fraction=0.3)
    assert cut.unlabelled is not None
    assert sorted(cut.splits["train"].texts + cut.unlabelled.texts) == sorted(text for text, _ in sentences(100))
    assert cut.unlabelled.labels == [UNLABELLED] * 70
    held_out = load(train, dev=dev).splits["dev"].texts[0]
    rows = [("an odd text", ""), ("An odd text!", ""), (held_out.upper(), "")]
    more = write_tsv(tmp_path / "u.tsv", rows)
    added = load(train, dev=dev, unlabelled=more).unlabelled
    assert added is not None
    assert added.texts == ["An odd text!"]  # once, and nothing of what is held out
    no_labels = write_tsv(tmp_path / "v.tsv", [("another text",)], ("text",))
    assert load(train, dev=dev, unlabelled=no_labels).unlabelled is not None
    with pytest.raises(UserError, match=r"data\.unlabelled: .*w\.tsv: no such file"):
        load(train, dev=dev, unlabelled=tmp_path / "w.tsv")


def test_the_embedded_corpus_has_four_domains_and_no_leak() -> None:
    corpus = load_corpus(DataOptions())
    assert corpus.labels == ["negative", "positive"]
    texts = {name: {normalise(text) for text in split.texts} for name, split in corpus.splits.items()}
    assert not (texts["train"] | texts["dev"]) & texts["test"]
    assert not texts["train"] & texts["dev"]
    for split in corpus.splits.values():
        assert set(split.domains or []) == {"movies", "products", "editorials", "tweets"}
        assert len(split) == len({normalise(text) for text in split.texts})
    assert len(corpus.splits["train"]) > 15_000
