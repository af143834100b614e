"""The fastText-style model: what it computes, and what its pairs of words are good for."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from compress.baselines.fasttext import fit_fasttext
from compress.baselines.fasttext_model import FastTextModel, hashed
from compress.data.corpus import Corpus, Split


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Each word is as frequent in both classes: only pairs of neighbours tell them apart."""
    texts = ["Good, not bad!", "bad, not good!"] * 80
    split = Split(texts, None, [0, 1] * 80, None)
    return Corpus(["a", "b"], {"train": split, "dev": split})


def test_pairs_of_words_tell_apart_what_single_words_cannot(corpus: Corpus) -> None:
    model = fit_fasttext(corpus, seed=0)
    asked = ["good, not bad!", "BAD, not good!", "the film is good, not bad!"]
    assert model.logits(model.rows(asked, None)).argmax(axis=1).tolist() == [0, 1, 0]
    again = fit_fasttext(corpus, seed=0)
    np.testing.assert_array_equal(again.embeddings, model.embeddings)


def test_logits_are_the_layer_on_the_mean_of_the_known_embeddings(tmp_path: Path) -> None:
    film, good, end, film_good, good_end = hashed(["film good"], None)[0]
    hashes = np.array([film, end, film_good])
    order = np.argsort(hashes)
    embeddings = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 5.0]], np.float32)
    model = FastTextModel(hashes[order], embeddings[order], np.array([[1.0, 0.0], [0.0, 10.0]], np.float32))
    model.save(tmp_path / "model.npz")
    read = FastTextModel.load(tmp_path / "model.npz")
    # The mean of film, </s> and "film good" is (1, 2); good and "good </s>" are in no training text.
    np.testing.assert_allclose(read.logits(read.rows(["Film good"], None)), [[1.0, 20.0]])
    # Nothing of this text is known but its end.
    np.testing.assert_allclose(read.logits(read.rows(["?"], None)), [[0.0, 10.0]])
    assert len({film, good, end, film_good, good_end}) == 5


def test_a_pair_is_one_text_behind_the_other_with_an_end_between() -> None:
    (pair,), (alone,) = hashed(["a b"], ["c"]), hashed(["a b"], None)
    assert set(alone) < set(pair)
    assert set(hashed(["c"], None)[0]) < set(pair)
    assert len(pair) == len(["a", "b", "</s>", "c", "</s>"]) * 2 - 1


def test_hashes_are_the_same_in_every_process() -> None:
    code = "from compress.baselines.fasttext_model import hashed; print(hashed(['Ein Film, né?'], None)[0].tolist())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(hashed(["ein film, né?"], None)[0].tolist())
