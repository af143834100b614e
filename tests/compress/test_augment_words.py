"""EDA's operations, WordNet, the tagger and the sampling of words by their tags."""

import os
import pickle
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from compress.augment import wordnet
from compress.augment.eda import delete_words, insert_synonyms, replace_synonyms, swap_words
from compress.augment.example import Example
from compress.augment.sampling import WordSampler, make_sampling
from compress.augment.tagger import load_tagger
from compress.augment.wordnet import synonyms
from compress.augment.words import match_case, split_affixes
from compress.data import assets

TEXT = ["The", "(great)", "film", "was", "Great,", "not", "bad!"]


def toy_synonyms(word: str) -> Sequence[str]:
    return {"great": ["superb"], "film": ["motion picture"], "was": ["existed"], "bad": ["poor"]}.get(word, [])


def test_replacement_keeps_punctuation_and_capitals_and_leaves_stop_words() -> None:
    new = replace_synonyms(TEXT, 9, random.Random(0), toy_synonyms)
    assert new == ["The", "(superb)", "motion picture", "was", "Superb,", "not", "poor!"]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_replacement_changes_as_many_words_as_asked(count: int) -> None:
    new = replace_synonyms(TEXT, count, random.Random(1), toy_synonyms)
    assert sum(a != b for a, b in zip(TEXT, new, strict=True)) == count


def test_insertion_adds_synonyms_of_the_texts_own_words() -> None:
    for seed in range(20):
        new = insert_synonyms(TEXT, 2, random.Random(seed), toy_synonyms)
        added = Counter(new) - Counter(TEXT)
        assert sum(added.values()) == 2
        assert set(added) <= {"superb", "motion picture", "poor"}
    assert insert_synonyms(["was"], 1, random.Random(0), toy_synonyms) == ["was"]


def test_a_swap_exchanges_two_words() -> None:
    words = list("abcdef")
    new = swap_words(words, 1, random.Random(0))
    assert sorted(new) == words
    assert sum(a != b for a, b in zip(words, new, strict=True)) == 2
    assert swap_words(["a"], 3, random.Random(0)) == ["a"]


def test_deletion_takes_its_share_in_order_and_never_everything() -> None:
    words = [str(i) for i in range(10_000)]
    new = delete_words(words, 0.1, random.Random(0))
    assert 8_800 < len(new) < 9_200
    assert new == sorted(new, key=int)
    assert delete_words(["a", "b"], 1.0, random.Random(0)) in (["a"], ["b"])


def test_wordnet_knows_synonyms_of_inflected_words() -> None:
    assert {"movie", "flick", "motion picture"} <= set(synonyms("films"))
    assert {"awful", "dreadful"} <= set(synonyms("terrible"))
    assert "take the air" in synonyms("walked")
    assert "ineffective" in synonyms("unable")  # an adjective with a marker of its place in the file
    assert synonyms("zzxxy") == ()
    for word in ("films", "great"):
        assert word not in synonyms(word)


def test_wordnet_finds_synonyms_in_every_part_of_speech_and_by_irregular_forms() -> None:
    assert {"ox", "bos taurus", "wild ox"} <= set(synonyms("oxen"))  # a noun, by noun.exc
    assert "travel" in synonyms("went")  # a verb, by verb.exc
    assert "beneficial" in synonyms("better")  # an adjective, by adj.exc
    assert {"speedily", "rapidly"} <= set(synonyms("quickly"))  # an adverb
    assert "angry" in synonyms("raging")  # a satellite adjective


def test_wordnet_is_read_from_files_that_others_may_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A usual umask (002) makes such files; each file is checked by its SHA-256 instead."""
    shutil.copytree(assets.wordnet(), tmp_path / "wordnet-3.0")
    for path in (tmp_path / "wordnet-3.0").iterdir():
        path.chmod(0o666)
    expected = synonyms("film")
    monkeypatch.setenv("POCKETBERT_CACHE", str(tmp_path))
    caches = (synonyms, wordnet._load)
    for cached in caches:
        cached.cache_clear()
    try:
        assert synonyms("film") == expected
        assert Path(wordnet._load().root.path) == tmp_path / "wordnet-3.0"
    finally:
        for cached in caches:
            cached.cache_clear()


def test_nltk_is_imported_only_by_the_methods_that_use_it() -> None:
    code = "import sys, compress.augment.stage, compress.augment.spans; sys.exit('nltk' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})


def test_affixes_and_capitals() -> None:
    assert split_affixes("(great!)") == ("(", "great", "!)")
    assert split_affixes("don't...") == ("", "don't", "...")
    assert split_affixes("...") == ("...", "", "")
    assert match_case("superb", "Great") == "Superb"
    assert match_case("superb", "GREAT") == "SUPERB"
    assert match_case("superb", "great") == "superb"


def test_the_tagger_tells_word_classes_by_their_place() -> None:
    for text, tags in (
        ("She can show you the show .", "PRP MD VB PRP DT NN ."),
        ("The camera takes wonderful pictures .", "DT NN VBZ JJ NNS ."),
    ):
        assert load_tagger().tag(text.split()) == tags.split()
    assert load_tagger().tag([]) == []


def test_a_sentence_starts_with_the_history_of_the_tagger_s_training() -> None:
    """The previous tag is -START- and the one before is -START2-. In the other order, the second word becomes NNP."""
    assert load_tagger().tag(["The", "Chargers", "'", "action", "filled", "the", "last"])[:4] == [
        "DT",
        "NNPS",
        "POS",
        "NN",
    ]


def test_a_pickle_of_anything_but_plain_data_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trontagger-0.1.0.pickle").write_bytes(pickle.dumps((os.getcwd, {}, set())))
    monkeypatch.setattr("compress.augment.tagger.perceptron_tagger", lambda: tmp_path)
    with pytest.raises(pickle.UnpicklingError, match=r"posix\.getcwd"):
        load_tagger.__wrapped__()


TEXTS = ["The camera takes wonderful pictures.", "The phone takes awful pictures!", "The camera's menus were awful."]


def test_a_replaced_word_comes_from_its_tags_own_words() -> None:
    replace_all = make_sampling(TEXTS, load_tagger(), "[MASK]", mask=0.0, pos=1.0, ngram=0.0)
    allowed = [{"The"}, {"camera", "phone", "camera's"}, {"takes"}, {"wonderful", "awful"}, {"pictures", "menus"}]
    seen: list[set[str]] = [set() for _ in allowed]
    for seed in range(60):
        (new,) = replace_all([Example(TEXTS[0], None, 0)], random.Random(seed))
        assert new.text.endswith(".")
        for words, word in zip(seen, new.text.removesuffix(".").split(), strict=True):
            words.add(word)
    assert seen == allowed


def test_words_are_drawn_as_often_as_they_occur() -> None:
    sampler = WordSampler(["the film"] * 9 + ["the meal"], load_tagger())
    rng = random.Random(0)
    drawn = Counter(sampler.sample("NN", rng) for _ in range(5000))
    assert set(drawn) == {"film", "meal"}
    assert 0.07 < drawn["meal"] / 5000 < 0.13
    assert sampler.sample("UH", rng) is None
    assert sampler.tags("The film... wasn't !!") == ("DT", "NN", "VBD", "")


def test_masks_come_at_their_rate_and_keep_punctuation() -> None:
    mask = make_sampling(TEXTS, load_tagger(), "<mask>", mask=0.3, pos=0.0, ngram=0.0)
    words = [
        word for example in mask([Example(TEXTS[0], None, 0)] * 400, random.Random(0)) for word in example.text.split()
    ]
    masked = [word for word in words if "<mask>" in word]
    assert 0.25 < len(masked) / len(words) < 0.35
    assert set(masked) == {"<mask>", "<mask>."}


def test_n_grams_are_stretches_of_one_to_five_words() -> None:
    cut = make_sampling(TEXTS, load_tagger(), "[MASK]", mask=0.0, pos=0.0, ngram=1.0)
    text = "a b c d e f g h i j"
    made = [example.text for example in cut([Example(text, None, 0)] * 300, random.Random(0))]
    assert all(new in text for new in made)
    assert {len(new.split()) for new in made} == {1, 2, 3, 4, 5}


def test_of_a_pair_one_text_the_other_or_both_are_changed() -> None:
    mask = make_sampling(TEXTS, load_tagger(), "[MASK]", mask=1.0, pos=0.0, ngram=0.0)
    made = mask([Example("a b", "c d", 0)] * 300, random.Random(0))
    counts = Counter((example.text == "a b", example.text_b == "c d") for example in made)
    assert set(counts) == {(True, False), (False, True), (False, False)}
    assert min(counts.values()) > 60
