"""Splits that are carved out of train, samples, and what the summary says about a table."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from compress.data.carve import carve
from compress.data.corpus import Corpus, load_corpus
from compress.data.labels import alike, like
from compress.data.summary import TableSummary
from compress.data.tables import Row, normalise
from compress.recipe import load_recipe
from compress.recipe.sections import DataOptions
from compress.runtime.errors import UserError
from tests.tiny_task import sentences, tiny_recipe, write_tsv


def rows(sizes: dict[str, int]) -> list[Row]:
    texts = [(f"text {number} of {label}", label) for label, size in sizes.items() for number in range(size)]
    return [Row(text, None, label, None, normalise(text), "line 1") for text, label in texts]


def counts(split: list[Row]) -> Counter[str]:
    return Counter(row.label for row in split)


def load(folder: Path, table: list[tuple[str, ...]], **options: object) -> Corpus:
    return load_corpus(DataOptions.model_validate({"train": write_tsv(folder / "t.tsv", table), **options}))


@pytest.mark.parametrize("classes", [2, 150, 1000])
def test_every_class_is_in_train_and_large_ones_in_every_split(classes: int) -> None:
    sizes = {f"c{number}": 1 + number % 40 for number in range(classes)}
    for test in (True, False):
        splits = carve(rows(sizes), test=test)
        assert set(splits) == {"train", "dev", "test"} - (set() if test else {"test"})
        assert sum(map(len, splits.values())) == sum(sizes.values())
        assert counts(splits["train"]).keys() == sizes.keys()
        for name in splits.keys() - {"train"}:
            found = counts(splits[name])
            for label, size in sizes.items():
                assert (size >= 10) <= found[label] <= 0.15 * size + 0.5


def test_the_order_of_the_rows_does_not_matter() -> None:
    table = rows({"a": 40, "b": 200, "c": 1, "d": 3})
    sorted_by_label = carve(table)
    random.Random(0).shuffle(table)
    shuffled = carve(table)
    assert {name: set(split) for name, split in shuffled.items()} == {
        name: set(split) for name, split in sorted_by_label.items()
    }


def test_a_text_with_several_labels_is_on_one_side_and_its_labels_in_train() -> None:
    for number in range(200):  # whatever the hash says of its text
        table = rows({"a": 30, "b": 30})
        table += [Row(f"odd {number}", None, label, None, f"odd {number}", "line 1") for label in ("a", "x", "y")]
        splits = carve(table)
        assert {"a", "b", "x", "y"} == set(counts(splits["train"]))
        assert sum(any(row.group == f"odd {number}" for row in split) for split in splits.values()) == 1


def test_a_class_of_one_makes_no_run_fail(tmp_path: Path) -> None:
    for number in range(30):
        corpus = load(tmp_path, [*sentences(60), (f"please cancel {number}", "cancel")])
        assert corpus.labels == ["cancel", "negative", "positive"]
        assert corpus.splits["train"].labels.count(0) == 1


def test_a_sample_of_train_has_every_class(tmp_path: Path) -> None:
    table = [*sentences(300), ("please cancel it", "cancel"), ("my money back", "refund")]
    dev = write_tsv(tmp_path / "d.tsv", [("cancel", "cancel"), ("money", "refund"), ("the film was fine", "positive")])
    for options in ({"train_limit": 5}, {"limit": 5}, {"train_fraction": 0.02}):
        split = load(tmp_path, table, dev=dev, **options).splits["train"]
        assert set(split.labels) == {0, 1, 2, 3}
        assert len(split) == (6 if "train_fraction" in options else 5)
    with pytest.raises(UserError, match=r"data\.train_limit: 3 texts are fewer than the 4 classes"):
        load(tmp_path, table, dev=dev, train_limit=3)
    # A sample that has every class by itself stays what it is: it depends on the seed only.
    everything = load(tmp_path, sentences(300), dev=dev.with_name("t.tsv"), train_limit=40).splits["train"].texts
    chosen = sorted(random.Random(0).sample(range(300), 40))
    assert everything == [sentences(300)[row][0] for row in chosen]


def test_a_label_that_only_dev_has_is_told_with_the_one_it_is_like(tmp_path: Path) -> None:
    dev = write_tsv(tmp_path / "d.tsv", [("good one", "positive"), ("bad one", " Negative")])
    with pytest.raises(
        UserError, match=r"dev has the label ' Negative' \(1 rows, line 3\), which train never had, but 'neg"
    ):
        load(tmp_path, sentences(20), dev=dev)
    lost = [("a lamp like no other in the world", "odd"), *sentences(20)]
    dev = write_tsv(tmp_path / "d.tsv", [lost[0], ("nothing of it", "positive")])
    with pytest.raises(UserError, match=r"which train no longer has after data\.decontaminate"):
        load(tmp_path, lost, dev=dev, decontaminate="exact")


def test_a_domain_of_one_class_is_refused(tmp_path: Path) -> None:
    from compress.data.domains import student_corpus

    table = [(text, label, "x" if label == "positive" else "y") for text, label in sentences(100)]
    path = write_tsv(tmp_path / "t.tsv", table, ("text", "label", "domain"))
    (tmp_path / "task.toml").write_text(f'[data]\ntrain = "{path}"\ndomain = "domain"\n[domains]\nstudent = "x"\n')
    recipe = load_recipe(tmp_path / "task.toml")
    with pytest.raises(UserError, match=r"domains\.student: all training texts of x have the label 'positive'"):
        student_corpus(recipe, load_corpus(recipe.target))


def summary(folder: Path, table: list[tuple[str, ...]], **options: object) -> TableSummary:
    found = load(folder, table, **options).summary
    assert found is not None
    return found


def test_the_summary_counts(tmp_path: Path) -> None:
    table = [*sentences(200), ("The film!", "positive"), ("the film", "positive")]
    found = summary(tmp_path, table, dev=write_tsv(tmp_path / "d.tsv", sentences(120, seed=1)))
    assert found.rows == {"train": 202, "dev": 120}
    assert found.classes == {"positive": 102, "negative": 100}
    assert (found.repeated, found.conflicts, found.blank, found.warnings) == (1, 0, 0, [])
    assert found.characters["longest"] == max(len(text) for text, _ in table)
    shown = " ".join(found.lines())
    assert "train 202, dev 120; 2 classes in train: 'positive' 102, 'negative' 100" in shown


WARNINGS = [
    ([("an odd text", "Positive"), ("another", "positive ")], {}, "'Positive', 'positive', 'positive ' are different classes"),
    ([("an odd text", " x")], {}, "labels with spaces around them: ' x'"),
    ([("an odd text", "1"), ("another", "1.0")], {}, "'1', '1.0' are different classes"),
    ([("an odd text", "positive\u200b")], {}, "are different classes, but look the same"),
    ([("an odd text", "café"), ("another", "cafe\u0301")], {}, "are different classes, but look the same"),
    ([("an odd text", '"x"')], {}, "labels with quotation marks around them"),
    ([("an odd text", "positive;negative")], {}, "'positive;negative' looks like several labels"),
    ([("an odd text", "positive|urgent")], {}, "'positive|urgent' looks like several labels"),
    ([], {"labels": ["negative", "neutral", "positive"]}, "no training text has 'neutral'"),
    ([("an odd text", "odd")], {}, "dev has no text of 1 of 3 classes: 'odd'"),
    ([("an odd text", "odd")], {}, "1 of 3 classes have one training text only: 'odd'"),
    ([("an odd text", "positive"), ("An odd text!", "negative")], {}, "'positive' in line 302 and 'negative' in line 303"),
    ([("?", "positive"), ("a", "negative")], {}, "texts of a single character, or without a letter or digit: 2, such as '?' (train, line 302)"),
    ([(str(n), "positive") for n in range(4_000)], {}, "4,000 training texts have no letters, such as '0' in line 302"),
    ([("das cafÃ© war schÃ¶n", "positive")], {}, "1 training texts are UTF-8 that was read as another encoding before"),
    ([("a\0b", "positive")], {}, "texts with a NUL character such as the one of train, line 302: 1"),
    ([('"he said ""no"""', "positive")], {}, "1 texts stand in quotation marks"),
]  # fmt: skip


@pytest.mark.parametrize(("more", "options", "expected"), WARNINGS)
def test_the_summary_says_what_looks_wrong(
    tmp_path: Path, more: list[tuple[str, str]], options: dict[str, object], expected: str
) -> None:
    dev = write_tsv(tmp_path / "d.tsv", sentences(120, seed=1))
    found = summary(tmp_path, sentences(300) + more, dev=dev, **options)
    assert any(expected in line for line in found.warnings), found.warnings
    few = summary(tmp_path, sentences(300) + more, dev=write_tsv(tmp_path / "d.tsv", sentences(20)), **options)
    assert any("dev has 20 texts only: each is worth 5.0 points" in line for line in few.warnings)


def test_numbers_are_alike_if_they_are_one_number() -> None:
    assert alike(["1", "1.0", "01", "1e0", "2"]) == [["01", "1", "1.0", "1e0"]]
    codes = [*("1000001", "1000002", "12345678901234567890", "12345678901234567891"), "0.30000001", "0.30000002"]
    assert alike(codes) == []  # such as those of products
    assert like("1000003", codes) == ""
    assert like("0001000002", codes) == ", but '1000002'"


def test_a_run_prints_the_summary_and_the_card_keeps_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from compress.pipeline.run import compress
    from compress.pipeline.workspace import Workspace

    path = tiny_recipe(tmp_path, rows=120)
    with (tmp_path / "train.tsv").open("a", encoding="utf-8") as file:
        file.write("one odd [bold] text\tPositive\n")
    settings = ["student.kind=bilstm", "objective.method=logits", "augmentation.method=none", "compress.epochs=1"]
    text = path.read_text(encoding="utf-8")
    path.write_text(text[: text.index("[student]")] + text[text.index("[export]") :], encoding="utf-8")
    student = compress(load_recipe(path, [*settings, "teacher.epochs=1"]), Workspace(tmp_path / "artifacts"))
    shown = capfd.readouterr().err
    assert "3 classes in train" in shown.split("epoch 1")[0]
    assert "'Positive', 'positive' are different classes" in shown.split("epoch 1")[0]
    table = json.loads((student / "card.json").read_text(encoding="utf-8"))["table"]
    assert table["rows"] == {"train": 121, "dev": 100}
    assert table["classes"] == {"negative": 60, "positive": 60, "Positive": 1}
    assert len(table["warnings"]) == 3
