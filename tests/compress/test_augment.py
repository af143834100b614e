"""The contract of every augmentation, and the stage that runs them."""

import itertools
import json
import random
from pathlib import Path

import pytest

from compress.augment.cbert import make_cbert
from compress.augment.eda import eda
from compress.augment.example import Augmentation, Example, examples
from compress.augment.masked_lm import MaskedLM
from compress.augment.replacement import make_replacement
from compress.augment.sampling import make_sampling
from compress.augment.spans import spans
from compress.augment.stage import make_augmented, make_language_model
from compress.augment.tagger import load_tagger
from compress.augment.texts import load_augmented
from compress.augment.train_masked_lm import condition_on_labels, train_masked_lm
from compress.data.assets import minilm
from compress.data.corpus import Corpus, Split
from compress.recipe import Recipe, load_recipe
from compress.recipe.sections import CbertOptions, ReplacementOptions, TeacherOptions
from tests.tiny_task import sentences, tiny_teacher

METHODS = ["spans", "eda", "sampling", "cbert", "tinybert"]
ODD_TEXTS = [
    "good",
    "...!!",
    "😀 😀",
    "👩‍👩‍👧 good",
    "[MASK] was good",
    "the\tfilm\nwas  good",
    "naïve café, 電影 good",
    "don't",
    "the film was good " * 400,
]


def tiny_corpus(rows: int = 120, *, pair: bool = False) -> Corpus:
    table = sentences(rows)
    texts = [text for text, _ in table]
    labels = [int(label == "positive") for _, label in table]
    split = Split(texts, texts[1:] + texts[:1] if pair else None, labels, None)
    return Corpus(["negative", "positive"], {"train": split, "dev": split})


def write_recipe(directory: Path, text: str) -> Recipe:
    (directory / "recipe.toml").write_text(text, encoding="utf-8")
    return load_recipe(directory / "recipe.toml")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_teacher(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def augmentations(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Augmentation]:
    corpus = tiny_corpus()

    def masked_lm(options: CbertOptions | ReplacementOptions) -> MaskedLM:
        scratch = tmp_path_factory.mktemp("lm")
        lm = train_masked_lm(TeacherOptions(model=str(teacher)), corpus, options, scratch / "lm", max_length=32)
        if isinstance(options, CbertOptions):
            return condition_on_labels(lm, corpus, options, scratch / "conditional", seed=0)
        return lm

    return {
        "spans": spans,
        "eda": eda,
        "sampling": make_sampling(corpus.splits["train"].texts, load_tagger(), "[MASK]"),
        "cbert": make_cbert(masked_lm(CbertOptions(epochs=1))),
        "tinybert": make_replacement(masked_lm(ReplacementOptions(epochs=1))),
    }


@pytest.fixture(params=METHODS)
def augment(request: pytest.FixtureRequest, augmentations: dict[str, Augmentation]) -> Augmentation:
    return augmentations[request.param]


def test_one_new_unlabelled_example_for_each_the_same_ones_for_the_same_seed(augment: Augmentation) -> None:
    stream = list(examples(tiny_corpus().splits["train"]))
    first = list(augment(stream, random.Random(1)))
    assert len(first) == len(stream)
    assert all(example.label == -1 and example.text_b is None for example in first)
    assert first == list(augment(stream, random.Random(1)))
    assert first != list(augment(stream, random.Random(2)))
    assert any(new.text != old.text for new, old in zip(first, stream, strict=True))


def test_the_rng_goes_on_so_that_two_passes_differ(augment: Augmentation) -> None:
    stream, rng = list(examples(tiny_corpus().splits["train"])), random.Random(1)
    assert list(augment(stream, rng)) != list(augment(stream, rng))


def test_an_endless_stream_is_no_trouble(augment: Augmentation) -> None:
    endless = (Example(f"the film number {i} was good", None, 1) for i in itertools.count())
    made = augment(endless, random.Random(0))
    assert next(made).text
    assert next(made).text
    assert int(next(endless).text.split()[3]) <= 200  # examples read ahead


def test_order_is_kept(augment: Augmentation) -> None:
    """Each example repeats its own word, so any part of it shows which example it came from."""
    stream = [Example(" ".join([f"x{i}y"] * 12), None, 0) for i in range(100)]
    made = list(augment(stream, random.Random(0)))
    own = [f"x{row}y" in example.text for row, example in enumerate(made)]
    # A short n-gram may consist of masks and of words sampled from other texts.
    assert sum(own) >= 90


def test_pairs_stay_pairs_each_text_on_its_side(augment: Augmentation) -> None:
    stream = [Example(f"a{i} good film a{i}", f"b{i} awful meal b{i}", 0) for i in range(60)]
    made = list(augment(stream, random.Random(0)))
    assert len(made) == 60
    for row, example in enumerate(made):
        assert example.text
        assert example.text_b
        assert "b" + str(row) not in example.text
        assert "a" + str(row) not in example.text_b
    assert sum(f"a{row}" in example.text for row, example in enumerate(made)) > 30
    assert sum(f"b{row}" in str(example.text_b) for row, example in enumerate(made)) > 30
    assert any(example.text != old.text for example, old in zip(made, stream, strict=True))
    assert any(example.text_b != old.text_b for example, old in zip(made, stream, strict=True))


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_no_text_is_too_odd_and_none_comes_out_empty(augment: Augmentation, text: str) -> None:
    for seed in range(5):
        (single,) = augment([Example(text, None, 1)], random.Random(seed))
        (pair,) = augment([Example("the film was good", text, 1)], random.Random(seed))
        assert single.text.strip()
        assert pair.text.strip()
        assert str(pair.text_b).strip()


def test_a_span_is_a_stretch_of_one_side() -> None:
    split = tiny_corpus(40, pair=True).splits["train"]
    made = list(spans(examples(split), random.Random(3)))
    for example, old in zip(made, examples(split), strict=True):
        assert example.text in old.text
        assert str(example.text_b) in str(old.text_b)
        assert example.text == old.text or example.text_b == old.text_b
    assert {example.text == old.text for example, old in zip(made, examples(split), strict=True)} == {True, False}


@pytest.mark.parametrize("method", METHODS)
def test_the_stage_writes_each_pass_in_order_and_reads_it_back(teacher: Path, tmp_path: Path, method: str) -> None:
    short = "epochs = 1\nlearning_rate = 1e-3" if method in ("cbert", "tinybert") else ""
    recipe = write_recipe(
        tmp_path,
        f'[data]\nmax_length = 32\n[teacher]\nmodel = "{teacher}"\n[augmentation]\nmethod = "{method}"\ncopies = 3\n{short}',
    )
    corpus = tiny_corpus(40, pair=method == "spans")
    lm = tmp_path / "lm" if short else None
    if lm:
        make_language_model(recipe, corpus, lm, tmp_path / "scratch-lm")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        make_augmented(recipe, corpus, lm, tmp_path / name, tmp_path / f"scratch-{name}")
    lines = [json.loads(line) for line in (tmp_path / "one" / "texts.jsonl").read_text().splitlines()]
    assert [line["row"] for line in lines] == [*range(40)] * 3
    split = load_augmented(tmp_path / "one", corpus.splits["train"])
    assert split.labels == [-1] * 120
    assert split.texts == [line["text"] for line in lines]
    assert (split.texts_b is not None) == (method == "spans")
    assert split.texts[:40] != split.texts[40:80]
    assert split == load_augmented(tmp_path / "two", corpus.splits["train"])  # depends only on the recipe's seed


def test_the_embedded_encoder_suits_the_sampling_method(tmp_path: Path) -> None:
    """Its mask token replaces the masked words."""
    assert minilm().is_dir()
    recipe = write_recipe(tmp_path, '[augmentation]\nmethod = "sampling"\ncopies = 4\nmask = 0.5')
    make_augmented(recipe, tiny_corpus(20), None, tmp_path, tmp_path)
    assert sum("[MASK]" in text for text in load_augmented(tmp_path, tiny_corpus(20).splits["train"]).texts) > 40
