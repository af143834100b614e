"""The OpenAPI document describes what the service does. Its page loads nothing from the internet."""

from __future__ import annotations

import re
from typing import Any

from serve.messages import Explanation, Prediction, Predictions
from tests.serve.conftest import Client


def references(node: Any) -> set[str]:
    """Every `$ref` in a document."""
    if isinstance(node, dict):
        own = {node["$ref"]} if "$ref" in node else set()
        return own.union(*map(references, node.values()))
    return set().union(*map(references, node)) if isinstance(node, list) else set()


def test_every_reference_leads_to_a_schema(client: Client) -> None:
    document = client.get("/openapi.json").json()
    schemas = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert references(document) == schemas


def test_the_document_has_every_path_of_the_application(client: Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/classify", "/explain", "/info", "/livez", "/readyz", "/metrics"} == set(paths)
    for path in ("/classify", "/explain"):
        assert set(paths[path]["post"]["responses"]) == {"200", "413", "422", "429", "504"}


def test_limits_and_labels_are_those_of_the_running_service(client: Client) -> None:
    document = client.get("/openapi.json").json()
    string, array = document["components"]["schemas"]["Request"]["properties"]["text"]["anyOf"]
    assert string["maxLength"] == array["items"]["maxLength"] == 5_000
    assert (array["minItems"], array["maxItems"]) == (1, 8)
    assert string["minLength"] == array["items"]["minLength"] == 1  # the service refuses ""
    assert "negative, positive" in document["info"]["description"]


def test_text_b_is_in_the_document_and_required_only_for_pairs(client: Client, pair_client: Client) -> None:
    single = client.get("/openapi.json").json()["components"]["schemas"]["Request"]
    pair = pair_client.get("/openapi.json").json()["components"]["schemas"]["Request"]
    assert single["required"] == ["text"]
    assert "text_b" not in single["properties"]
    assert pair["required"] == ["text", "text_b"]
    assert [one["type"] for one in pair["properties"]["text_b"]["anyOf"]] == ["string", "array"]


def test_the_example_of_the_document_is_answered(client: Client, pair_client: Client) -> None:
    for one in (client, pair_client):
        body = one.get("/openapi.json").json()["paths"]["/classify"]["post"]["requestBody"]
        example = body["content"]["application/json"]["example"]
        assert one.classify(**example).status_code == 200
        assert one.request("POST", "/explain", json=example).status_code == 200


def test_answers_are_valid_by_the_models_of_the_document(client: Client) -> None:
    Prediction.model_validate(client.classify(text="good", scores=True).json(), strict=True)
    explanation = client.request("POST", "/explain", json={"text": "a good film"}).json()
    Explanation.model_validate(explanation, strict=True)
    Predictions.model_validate(client.classify(text=["good", "bad"], scores=True).json(), strict=True)


def test_the_page_names_no_other_host(client: Client) -> None:
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert all(address.startswith("./") for address in re.findall(r'(?:src|href|url)[=:] ?"([^"]+)"', page.text))
    assert "://" not in page.text


def test_the_path_of_bentoml_s_document_gives_the_same_document(client: Client) -> None:
    assert client.get("/docs.json").json() == client.get("/openapi.json").json()
