"""The answers to valid requests."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import anyio
import anyio.to_thread
import httpx
import numpy as np
import pytest

from export.bundle import Bundle
from export.session import BundleSession
from serve.app import create_app
from serve.messages import Prediction, Predictions, Request
from serve.predictor import Draft, Predictor
from serve.settings import Settings
from tests.serve.conftest import Client
from tests.waiting import PATIENCE


def test_one_text_is_answered_by_its_label_and_probability(client: Client) -> None:
    answer = client.classify(text="a very good film").json()
    assert answer.keys() == {"label", "score"}
    assert answer["label"] == "positive"
    assert 0.5 < answer["score"] <= 1


def test_a_list_is_answered_by_a_list_in_the_order_of_its_texts(client: Client) -> None:
    # The lengths differ, because the session sorts texts by length.
    texts = ["the film is bad and it was very very bad", "good", "bad film", "a film that is very very good"]
    results = client.classify(text=texts).json()["results"]
    assert [one["label"] for one in results] == ["negative", "positive", "negative", "positive"]


def test_a_text_gets_the_same_answer_alone_and_in_a_list(client: Client) -> None:
    # Padding must not leak into the answer.
    text = "a good film"
    alone = client.classify(text=text, scores=True).json()
    listed = client.classify(text=[text, "bad " * 40], scores=True).json()["results"][0]
    assert listed["scores"] == pytest.approx(alone["scores"], abs=1e-6)


def test_a_list_of_one_is_answered_by_a_list(client: Client) -> None:
    assert len(client.classify(text=["good"]).json()["results"]) == 1


def test_scores_hold_every_label_with_the_session_s_probabilities(client: Client, tiny_bundle: Path) -> None:
    answer = client.classify(text="a bad film", scores=True).json()
    expected = BundleSession(Bundle(tiny_bundle)).predict(["a bad film"])[0]
    assert answer["scores"] == pytest.approx({"negative": expected[0], "positive": expected[1]}, abs=1e-6)
    assert next(iter(answer["scores"])) == answer["label"]
    assert answer["scores"][answer["label"]] == answer["score"]


def test_a_pair_is_classified_with_its_texts_in_order(pair_client: Client) -> None:
    # The label compares the second text with the first. Texts in the other order get the other label.
    body = {"text": ["good film", "bad film"], "text_b": ["bad film", "good film"]}
    results = pair_client.classify(**body).json()["results"]
    assert [one["label"] for one in results] == ["worse", "better"]
    assert pair_client.classify(text="bad", text_b="good").json()["label"] == "better"


@pytest.mark.parametrize(
    "text",
    [
        "\x00good",
        "\u200bgood",
        "\ufeffgood",
        "\U0001f600" * 50,
        "\U0001fae9",
        "e\u0301" * 99,
        "\u202egood",
        "[PAD] [CLS]",
        "good " * 999,
        "x" * 5_000,
    ],
    ids=ascii,
)
def test_odd_text_is_classified(client: Client, text: str) -> None:
    # Control characters, emoji, combining marks, special tokens, and far more tokens than the model takes.
    response = client.classify(text=[text, "good"])
    assert response.status_code == 200, response.text
    assert all(np.isfinite(one["score"]) for one in response.json()["results"])


def test_content_type_does_not_matter(client: Client) -> None:
    # `curl -d` sends this content type.
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert client.request("POST", "/classify", content=b'{"text": "good"}', headers=headers).status_code == 200


def test_an_absent_text_b_may_be_written_as_null(client: Client) -> None:
    assert client.classify(text="good", text_b=None).status_code == 200


def test_info_names_the_bundle_and_the_limits(client: Client) -> None:
    info = client.get("/info").json()
    assert info["name"] == "tiny"
    assert info["precision"] == "fp32"
    assert info["labels"] == ["negative", "positive"]
    assert (info["max_texts"], info["max_characters"], info["max_bytes"]) == (8, 5_000, 20_000)


class HoldingPredictor(Predictor):
    """A predictor that holds each list until `release` is set."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.started = threading.Event()
        self.release = threading.Event()

    def begin(self, request: Request) -> Draft | Prediction | Predictions:
        if request.is_list:
            self.started.set()
            assert self.release.wait(PATIENCE)
        return super().begin(request)


def test_a_short_text_does_not_wait_for_a_large_batch(tiny_bundle: Path) -> None:
    predictor = HoldingPredictor(Settings(bundle=tiny_bundle))
    finished: list[str] = []

    async def send(client: httpx.AsyncClient, name: str, text: str | list[str]) -> None:
        response = await client.post("/classify", json={"text": text})
        assert response.status_code == 200
        finished.append(name)

    async def both() -> None:
        transport = httpx.ASGITransport(create_app(predictor))
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://test") as client,
            anyio.create_task_group() as group,
        ):
            group.start_soon(send, client, "large", ["a good film " * 300] * 256)
            assert await anyio.to_thread.run_sync(predictor.started.wait, PATIENCE)
            await send(client, "short", "good")
            predictor.release.set()

    anyio.run(both)
    assert finished == ["short", "large"]


def test_an_answer_names_the_bundle_and_the_time_that_it_took(client: Client) -> None:
    response = client.classify(text="good")
    assert response.headers["x-bundle-sha256"] == client.get("/info").json()["bundle"]
    assert len(response.headers["x-bundle-sha256"]) == 64
    assert re.fullmatch(r"queue;dur=\d+\.\d\d, run;dur=\d+\.\d\d", response.headers["server-timing"])


def test_a_text_that_was_cut_is_said_to_be_cut(client: Client, pair_client: Client) -> None:
    # 64 tokens, of which two are special.
    whole, cut = client.classify(text=["good " * 62, "good " * 63]).json()["results"]
    assert "truncated" not in whole
    assert cut["truncated"] is True
    pair = pair_client.classify(text="good " * 99, text_b="bad").json()
    assert pair["truncated"] is True
    assert "truncated" not in pair_client.classify(text="good", text_b="bad").json()
