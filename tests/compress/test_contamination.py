"""What is held out does not come back among the texts to learn from."""

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from compress.data.contamination import HeldOutIndex, shared_text_groups
from compress.data.corpus import Corpus, load_corpus
from compress.recipe.sections import DataOptions, SourceOptions
from compress.runtime.errors import UserError
from tests.tiny_task import write_tsv

DEV = [("It was the best film of the whole year, really.", "good"), ("Dull.", "bad")]
CLEAN = [("nothing here is like it", "good"), ("the worst film of all years", "bad")]
EQUAL = [("it was the BEST film of the whole year -- really", "good"), ("dull", "bad")]
SHARED = [("they say: best film of the whole decade", "good")]  # five words: best film of the whole
FOUR = [("they say the film of the whole decade", "good")]  # four: film of the whole


def load(folder: Path, train: list[tuple[str, str]], decontaminate: str = "off") -> Corpus:
    options = {"source": "files", "train": write_tsv(folder / "t.tsv", train), "dev": write_tsv(folder / "d.tsv", DEV)}
    return load_corpus(DataOptions.model_validate({**options, "decontaminate": decontaminate}))


def test_a_run_of_five_words_is_found_and_one_of_four_is_not() -> None:
    held_out = HeldOutIndex(text for text, _ in DEV)
    found = [held_out.find([text]) for text, _ in CLEAN + EQUAL + SHARED + FOUR]
    assert found == [None, None, "equal", "equal", "shared", None]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("It doesn't work, and it's late.", "it does n't work , and it 's late ."),
        ("They’d better not (sadly)", "they'd better not -lrb- sadly -rrb-"),
        ("caf\u00e9 noir", "cafe\u0301 noir"),
        ("ＧＯＯＤ film", "good film"),
        ("a _great_ STRASSE", "a great straße"),
    ],
)
def test_a_text_is_the_same_whoever_tokenised_it(one: str, other: str) -> None:
    assert HeldOutIndex([one]).find([other]) == HeldOutIndex([other]).find([one]) == "equal"


def test_words_are_not_thrown_together() -> None:
    held_out = HeldOutIndex(["we were", "नमस्ते दुनिया", "?!"])
    assert [held_out.find([text]) for text in ("were", "we're", "नमस्त दुनिया", "!?", "?!")] == [
        None,
        None,
        None,
        None,
        "equal",
    ]


def test_texts_linked_by_shared_words_are_one_group_however_many_lie_between() -> None:
    texts = ["a b c d e f", "e f g h i", "b c d e f g h", "dull", "dull day", "dull", "c d e f g"]
    groups = shared_text_groups([(text,) for text in texts])
    # The third shares "b c d e f" with the first; the last one "c d e f g" with the third; the second nothing of five words.
    assert [[groups[i] == groups[j] for j in range(7)] for i in (0, 1, 3)] == [
        [True, False, True, False, False, False, True],
        [False, True, False, False, False, False, False],
        [False, False, False, True, False, True, False],
    ]


def test_of_a_pair_each_text_links_it_to_others() -> None:
    groups = shared_text_groups([("what is it", "how so"), ("who", "what is it"), ("who", "me"), ("you", "them")])
    assert groups[0] == groups[1] == groups[2] != groups[3]


def test_the_index_finds_what_a_slow_search_finds() -> None:
    rng = random.Random(0)
    texts = [[rng.choice("abc") for _ in range(rng.randint(1, 12))] for _ in range(400)]
    held_out, others = texts[:30], texts[30:]

    def slow(words: list[str]) -> str | None:
        if words in held_out:
            return "equal"
        runs = [words[i : i + 5] for i in range(len(words) - 4)]
        return (
            "shared"
            if any(run == other[j : j + 5] for run in runs for other in held_out for j in range(len(other)))
            else None
        )

    index = HeldOutIndex(" ".join(words) for words in held_out)
    found = [index.find([" ".join(words)]) for words in others]
    assert found == [slow(words) for words in others]
    assert {None, "equal", "shared"} == set(found)


@pytest.mark.parametrize(
    ("decontaminate", "kept", "removed"),
    [("off", CLEAN + EQUAL + SHARED, 0), ("exact", CLEAN + SHARED, 2), ("overlap", CLEAN, 3)],
)
def test_what_is_found_is_counted_and_removed_as_the_recipe_says(
    tmp_path: Path, decontaminate: str, kept: list[tuple[str, str]], removed: int
) -> None:
    corpus = load(tmp_path, CLEAN + EQUAL + SHARED, decontaminate)
    assert corpus.splits["train"].texts == [text for text, _ in kept]
    assert corpus.splits["dev"].texts == [text for text, _ in DEV]
    (found,) = corpus.contamination
    assert (found.texts, found.equal, found.shared, found.removed) == (5, 2, 1, removed)
    assert f'data.decontaminate = "{decontaminate}"' in str(found)


def test_a_train_of_which_nothing_is_left_is_named_with_what_removed_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^data\.decontaminate: all 3 training texts overlap with dev or test"):
        load(tmp_path, EQUAL + SHARED, "overlap")


def test_unlabelled_texts_are_looked_at_too(tmp_path: Path) -> None:
    more = write_tsv(tmp_path / "u.tsv", [SHARED[0][:1], FOUR[0][:1]], ("text",))
    files = {"train": write_tsv(tmp_path / "t.tsv", CLEAN), "dev": write_tsv(tmp_path / "d.tsv", DEV)}
    options = {"source": "files", **files, "unlabelled": more}
    whole = write_tsv(tmp_path / "w.tsv", [EQUAL[0][:1], FOUR[0][:1]], ("text",))
    left = load_corpus(DataOptions.model_validate({**options, "unlabelled": whole}))
    assert left.unlabelled is not None
    assert left.unlabelled.texts == [FOUR[0][0]]
    assert [(found.texts, found.equal, found.removed) for found in left.contamination[1:]] == [(2, 1, 1)]
    for decontaminate, kept in (("off", 2), ("overlap", 1)):
        corpus = load_corpus(DataOptions.model_validate({**options, "decontaminate": decontaminate}))
        assert corpus.unlabelled is not None
        assert len(corpus.unlabelled) == kept
        assert [found.of for found in corpus.contamination] == ["training", "unlabelled"]


def test_of_a_pair_each_text_counts(tmp_path: Path) -> None:
    columns = ("one", "two", "label")
    dev = [("is it warm", "how warm is it", "yes"), ("x y", "z", "no")]
    rows = [("where is it", "is it WARM?", "yes"), ("where is it", "is it cold", "no")]
    files = {"train": write_tsv(tmp_path / "t.tsv", rows, columns), "dev": write_tsv(tmp_path / "d.tsv", dev, columns)}
    shared = {"source": "files", "text": "one", "text_b": "two"}
    target = DataOptions.model_validate({**shared, "train": files["dev"], "dev": files["dev"]})
    source = load_corpus(target, SourceOptions.model_validate({**shared, "train": files["train"]})).source
    assert source is not None
    assert source.texts_b == ["is it cold"]


def test_what_pairs_of_one_table_share_is_counted_when_it_is_split(tmp_path: Path) -> None:
    rows = [(f"question {i // 20}", f"answer {i}", "yes" if i % 2 else "no") for i in range(400)]
    table = write_tsv(tmp_path / "t.tsv", rows, ("one", "two", "label"))
    options = {"source": "files", "train": table, "text": "one", "text_b": "two"}
    corpus = load_corpus(DataOptions.model_validate(options))
    (found,) = corpus.contamination
    questions = {text for name in ("dev", "test") for text in corpus.splits[name].texts}
    assert found.equal == sum(text in questions for text in corpus.splits["train"].texts) > 300
    assert found.removed == 0


def sources(folder: Path, rows: list[tuple[str, str]], **options: object) -> Corpus:
    train = write_tsv(folder / "t.tsv", CLEAN)
    target = DataOptions(source="files", train=train, dev=write_tsv(folder / "d.tsv", DEV))
    path = write_tsv(folder / "s.tsv", [(*row, "also") for row in rows], ("text", "label", "other"))
    return load_corpus(target, SourceOptions.model_validate({"source": "files", "train": path, **options}))


def test_a_source_is_cleaned_unless_told_otherwise(tmp_path: Path) -> None:
    for decontaminate, kept in (({}, 2), ({"decontaminate": "exact"}, 3), ({"decontaminate": "off"}, 5)):
        corpus = sources(tmp_path, CLEAN + EQUAL + SHARED, **decontaminate)
        assert corpus.source is not None
        assert len(corpus.source) == kept
        assert corpus.contamination[-1].of == "source"
    assert corpus.splits["train"].texts == [text for text, _ in CLEAN]


def test_a_sources_labels_are_the_targets(tmp_path: Path) -> None:
    rows = [("a b c", "fine"), ("d e f", "bad")]
    with pytest.raises(UserError, match=r"data\.source\.relabel: .*'fine', the target bad, good"):
        sources(tmp_path, rows)
    source = sources(tmp_path, rows, relabel={"fine": "good"}).source
    assert source is not None
    assert sorted(zip(source.texts, source.labels, strict=True)) == [("a b c", 1), ("d e f", 0)]
    with pytest.raises(UserError, match="none is left"):
        sources(tmp_path, EQUAL)
    with pytest.raises(UserError, match="both be pairs"):
        sources(tmp_path, CLEAN, text_b="other")


def test_domains_are_chosen_by_name(tmp_path: Path) -> None:
    rows = [("a b c", "good", "books"), ("d e f", "bad", "books"), ("g h i", "good", "films")]
    train = write_tsv(tmp_path / "t.tsv", rows, ("text", "label", "domain"))
    options = {"source": "files", "train": train, "dev": train, "domain": "domain"}
    corpus = load_corpus(DataOptions.model_validate({**options, "only_domains": ["books"]}))
    assert corpus.splits["dev"].texts == ["a b c", "d e f"]
    with pytest.raises(UserError, match="no domain 'songs'; it has books, films"):
        load_corpus(DataOptions.model_validate({**options, "only_domains": ["songs"]}))


def test_the_check_of_a_large_corpus_takes_seconds() -> None:
    """A search through all held-out texts is far slower, whatever the machine."""
    rng = random.Random(0)
    texts = [" ".join(f"w{rng.randrange(3000)}" for _ in range(20)) for _ in range(11_000)]
    held_out = texts[:1000]

    def runs(text: str) -> list[list[str]]:
        words = text.split()
        return [words[i : i + 5] for i in range(len(words) - 4)]

    def seconds(check: Callable[[str], bool], texts: list[str]) -> float:
        started = time.process_time()
        assert not any(map(check, texts))
        return (time.process_time() - started) / len(texts)

    index, searched = HeldOutIndex(held_out), [run for text in held_out for run in runs(text)]
    slow = seconds(lambda text: any(run in searched for run in runs(text)), texts[-20:])
    assert seconds(lambda text: index.find([text]) is not None, texts[1000:]) < slow / 10
