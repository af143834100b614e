"""A request that is not valid or too large gets 422 or 413, and one line that names the field and the cure."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tokenizers import normalizers

from tests.serve.conftest import Client, serve

NOT_JSON = "body: not JSON"
KIND = "must be a string or a list of strings"


def refused(client: Client, body: bytes, status: int, message: str) -> None:
    """Post a body and check that it is refused with this status and message."""
    response = client.request("POST", "/classify", content=body)
    assert response.status_code == status, response.text
    assert response.json().keys() == {"error"}
    error = response.json()["error"]
    assert message in error
    assert "\n" not in error
    assert len(error) < 300


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", NOT_JSON),
        (b"a good film", NOT_JSON),
        (b'{"text": "good"', NOT_JSON),
        (b'{"text": "good"} {}', NOT_JSON),
        (b"{'text': 'good'}", NOT_JSON),
        (b"text=good", NOT_JSON),
        (b'{"text": "caf\xe9"}', NOT_JSON),  # Latin-1
        (b'{"text": "\\ud800"}', NOT_JSON),  # half of a surrogate pair: no UTF-8 for it
        (b'{"text": "two\nlines"}', NOT_JSON),  # a control character that JSON wants escaped
        (b'{"text": NaN}', NOT_JSON),
        (b"[" * 15_000, NOT_JSON),
        (b'{"text": ' + b"[" * 5_000 + b"]" * 5_000 + b"}", NOT_JSON),
        (b'{"text": 1' + b"0" * 10_000 + b"}", NOT_JSON),
        (b"null", "body: not a JSON object"),
        (b'"good"', "body: not a JSON object"),
        (b'["good"]', "body: not a JSON object"),
        (b"{}", "text: missing"),
        (b'{"texts": "good"}', "'texts': unknown field"),
        (b'{"text": "good", "model": "bert"}', "'model': unknown field"),
        (b'{"a\\nb' + b"c" * 500 + b'": 1}', "unknown field"),
        (b'{"text": null}', f"text: {KIND}"),
        (b'{"text": 5}', f"text: {KIND}"),
        (b'{"text": 1e999}', f"text: {KIND}"),
        (b'{"text": true}', f"text: {KIND}"),
        (b'{"text": {"text": "good"}}', f"text: {KIND}"),
        (b'{"text": []}', "text: the list is empty"),
        (b'{"text": ["good", 5]}', "text[1]: must be a string"),
        (b'{"text": ["good", "bad", null]}', "text[2]: must be a string"),
        (b'{"text": [["good"]]}', "text[0]: must be a string"),
        (b'{"text": ""}', "text: blank"),
        (b'{"text": " \\n\\t "}', "text: blank"),
        (b'{"text": "\\u0000"}', "text: blank"),
        ('{"text": ["good", "\u200b\u2060\ufeff\u00ad \u3164"]}'.encode(), "text[1]: blank"),
        (b'{"text": ["good", ""]}', "text[1]: blank"),
        (b'{"text": "good", "scores": "yes"}', "scores: must be true or false"),
        (b'{"text": "good", "scores": null}', "scores: must be true or false"),
        (b'{"text": "good", "text_b": "bad"}', "text_b: this bundle classifies single texts"),
    ],
    ids=lambda value: value[:32].decode("latin-1") if isinstance(value, bytes) else "",
)
def test_an_invalid_body_is_422(client: Client, body: bytes, message: str) -> None:
    refused(client, body, 422, message)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"text": "good"}', "text_b: missing"),
        (b'{"text": "good", "text_b": null}', "text_b: missing"),
        (b'{"text": "good", "text_b": ["bad"]}', "text_b: must have the shape of text"),
        (b'{"text": ["good"], "text_b": "bad"}', "text_b: must have the shape of text"),
        (b'{"text": ["good", "bad"], "text_b": ["bad"]}', "text_b: 1 texts for 2 in text"),
        (b'{"text": ["good"], "text_b": []}', "text_b: the list is empty"),
        (b'{"text": ["good"], "text_b": [5]}', "text_b[0]: must be a string"),
        (b'{"text": "good", "text_b": " "}', "text_b: blank"),
    ],
)
def test_an_invalid_pair_is_422(pair_client: Client, body: bytes, message: str) -> None:
    refused(pair_client, body, 422, message)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"text": ["good"' + b', "good"' * 8 + b"]}", "text: 9 texts; send at most 8"),
        (b'{"text": "' + b"x" * 5_001 + b'"}', "text: 5001 characters; send at most 5000"),
        (b'{"text": ["good", "' + b"x" * 5_001 + b'"]}', "text[1]: 5001 characters"),
        (b'{"text": "' + b"x" * 1_000_000 + b'"}', "body: more than 20000 bytes"),
        (b"x" * 20_001, "body: more than 20000 bytes"),
    ],
    ids=["texts", "characters", "characters-in-list", "megabyte", "bytes"],
)
def test_a_body_over_a_limit_is_413(client: Client, body: bytes, message: str) -> None:
    refused(client, body, 413, message)


def test_a_body_at_the_limits_is_answered(client: Client) -> None:
    assert client.classify(text=["good"] * 8).status_code == 200
    assert client.classify(text="x" * 5_000).status_code == 200
    body = b'{"text": "good"}'
    assert client.request("POST", "/classify", content=body.ljust(20_000)).status_code == 200


def test_reading_stops_at_the_limit_when_no_length_is_announced(client: Client) -> None:
    sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1_000):
            sent += 1_000
            yield b"x" * 1_000

    assert client.request("POST", "/classify", content=chunks()).status_code == 413
    assert sent <= 22_000


def test_another_method_is_405_with_the_right_one(client: Client) -> None:
    response = client.get("/classify")
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    assert response.json().keys() == {"error"}


def test_a_failure_of_the_server_is_500_with_json_and_no_traceback(tiny_bundle: Path) -> None:
    client = serve(tiny_bundle)
    client.app.state.predictor.labels.clear()  # breaks every answer
    response = client.classify(text="good")
    assert response.status_code == 500
    assert response.json().keys() == {"error"}
    assert "Traceback" not in response.text


def test_a_text_without_a_single_token_is_422(tiny_bundle: Path) -> None:
    # Without an unknown token, a tokenizer has nothing for a word that it does not know but [CLS] and [SEP].
    client = serve(tiny_bundle)
    client.app.state.predictor.session.encoder.tokenizer.normalizer = normalizers.Replace("x", "")
    response = client.classify(text=["good", "xx"])
    assert response.status_code == 422
    assert response.json()["error"].startswith("text[1]: holds no token")
