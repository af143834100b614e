"""`POST /explain`: the weight of a word is by how much the log-odds of the label fall when the word is left out."""

from __future__ import annotations

from math import log
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from tokenizers import processors

from export.bundle import Bundle
from export.session import BundleSession
from serve.explain import log_odds, runs
from serve.messages import Request
from tests.conftest import MakeBundle
from tests.serve.conftest import Client, serve


def explain(client: Client, **fields: Any) -> httpx.Response:
    return client.request("POST", "/explain", json=fields)


def weights(client: Client, **fields: Any) -> list[tuple[str, float | None]]:
    return [(one["word"], one.get("weight")) for one in explain(client, **fields).json()["words"]]


def log_odds_of(bundle: Path, label: int, text: str, text_b: str | None = None) -> float:
    """Straight from the probability."""
    p = float(BundleSession(Bundle(bundle)).predict([text], None if text_b is None else [text_b])[0, label])
    return log(p / (1 - p))


def test_a_weight_is_the_difference_of_the_log_odds_without_the_word(client: Client, tiny_bundle: Path) -> None:
    text = "a good film , very  bad"
    without = ["good film , very  bad", "a film , very  bad", "a good , very  bad", "a good film very  bad"]
    without += ["a good film , bad", "a good film , very"]
    answer = explain(client, text=text).json()
    label = ["negative", "positive"].index(answer["label"])
    expected = [log_odds_of(tiny_bundle, label, text) - log_odds_of(tiny_bundle, label, one) for one in without]
    assert [one["word"] for one in answer["words"]] == text.split()
    assert [one["weight"] for one in answer["words"]] == pytest.approx(expected, abs=2e-4)
    # A test of the test: the words that count are not those that do not.
    assert max(map(abs, expected)) > 1


def test_words_for_the_label_are_above_0_and_words_against_it_below(client: Client) -> None:
    found = dict(weights(client, text="a good good film is bad"))
    assert found["bad"] < 0 < found["good"]
    found = dict(weights(client, text="a bad bad film is good"))
    assert found["good"] < 0 < found["bad"]


def test_both_texts_of_a_pair_are_explained(pair_client: Client, tiny_pair_bundle: Path) -> None:
    answer = explain(pair_client, text="the film was bad", text_b="it is good").json()
    assert answer["label"] == "better"
    whole = log_odds_of(tiny_pair_bundle, 1, "the film was bad", "it is good")
    first, second = answer["words"][3], answer["words_b"][2]
    assert (first["word"], second["word"]) == ("bad", "good")
    assert first["weight"] == pytest.approx(
        whole - log_odds_of(tiny_pair_bundle, 1, "the film was", "it is good"), abs=2e-4
    )
    assert second["weight"] == pytest.approx(
        whole - log_odds_of(tiny_pair_bundle, 1, "the film was bad", "it is"), abs=2e-4
    )


def test_label_and_scores_are_those_of_classify(client: Client) -> None:
    answer = explain(client, text="a bad film", scores=True).json()
    words = answer.pop("words")
    assert answer == client.classify(text="a bad film", scores=True).json()
    assert len(words) == 3


def test_the_only_word_is_compared_with_no_word(client: Client, tiny_bundle: Path) -> None:
    expected = log_odds_of(tiny_bundle, 1, "good") - log_odds_of(tiny_bundle, 1, "")
    assert weights(client, text=" good ") == [("good", pytest.approx(expected, abs=2e-4))]


def test_chinese_and_japanese_characters_are_words(client: Client) -> None:
    words = [word for word, _ in weights(client, text="好 电影very good、そう")]
    assert words == ["好", "电", "影", "very", "good、", "そ", "う"]


def test_words_behind_the_cut_have_no_weight(make_bundle: MakeBundle) -> None:
    # The model reads [CLS], six words and [SEP].
    directory = make_bundle(max_length=8)
    text = "good film is the a very bad bad bad"
    client = serve(directory)
    found = weights(client, text=text)
    assert explain(client, text=text).json()["truncated"]
    assert "truncated" not in explain(client, text="good film").json()
    assert [weight is not None for _, weight in found] == [True] * 6 + [False] * 3
    # Without "good" the first "bad" comes into the window, so the weight holds both.
    expected = log_odds_of(directory, 1, text) - log_odds_of(directory, 1, "film is the a very bad")
    assert found[0] == ("good", pytest.approx(expected, abs=2e-4))


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({"text": ["good"]}, 422, "text: must be a string; words are explained for one text at a time"),
        ({"text": "good " * 8}, 413, "text: 8 words; at most 7 can be explained, so send fewer"),
        (
            {"text": "good " + "x" * 4_900 + " a b c"},
            413,
            "text: 4911 characters; at most 3333 can be explained with 5 ",
        ),
        ({"text": ""}, 422, "text: blank"),
        ({"text": "good", "words": 3}, 422, "'words': unknown field"),
        ({"text": "x" * 5_001}, 413, "text: 5001 characters; send at most 5000"),
        ({"text": "x" * 20_001}, 413, "body: more than 20000 bytes"),
    ],
)
def test_what_cannot_be_explained_is_refused(client: Client, fields: dict[str, Any], status: int, message: str) -> None:
    response = explain(client, **fields)
    assert response.status_code == status, response.text
    assert response.json()["error"].startswith(message)


def test_a_text_of_which_no_token_would_be_left_is_refused(tiny_bundle: Path) -> None:
    client = serve(tiny_bundle)
    client.app.state.predictor.session.encoder.tokenizer.post_processor = processors.Sequence([])
    response = explain(client, text="good")
    assert response.status_code == 422
    assert response.json()["error"].startswith("text: no token of the vocabulary is left without one of its words")


@pytest.mark.parametrize(("text", "expected"), [("a good film", 4), ("好 电影", 4), ("good " * 500, 65)])
def test_the_number_of_runs_is_known_before(client: Client, text: str, expected: int) -> None:
    # The admission of requests forecasts from it. 64 tokens are read at most.
    assert runs(Request(text=text), client.app.state.predictor.info.max_length) == expected


def test_a_text_without_a_token_is_refused_as_classify_refuses_it(client: Client) -> None:
    text = "\ufffd"  # visible, but the tokenizer drops it
    answers = [client.classify(text=text), explain(client, text=text)]
    assert [(one.status_code, one.json()) for one in answers] == [
        (422, {"error": "text: holds no token of the vocabulary"})
    ] * 2


def test_log_odds_are_exact_for_several_labels_and_sure_answers() -> None:
    logits = np.array([[1.0, 2.0, 0.5], [0.0, 60.0, 0.0]], np.float32)
    e = np.exp(np.array([1.0, 2.0, 0.5]))
    # p is 1 in the second row, to the last bit; its log-odds are not infinite.
    np.testing.assert_allclose(log_odds(logits, 1), [np.log(e[1] / (e[0] + e[2])), 60 - np.log(2)], rtol=1e-12)
