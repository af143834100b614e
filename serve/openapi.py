"""The OpenAPI document of the service and the page that shows it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from serve.messages import Explanation, Info, Prediction, Predictions, Refusal, Request

Json = dict[str, Any]

# BentoML's page without the tag manager, which would load a script from the internet. BentoML serves ./static_content.
PAGE = """<!DOCTYPE html>
<html lang="en">
  <head>
    <meta charset="UTF-8">
    <title>pocketbert</title>
    <link rel="stylesheet" href="./static_content/swagger-ui.css">
    <link rel="icon" type="image/png" href="./static_content/favicon-light-32x32.png">
  </head>
  <body>
    <div id="swagger-ui"></div>
    <script src="./static_content/swagger-ui-bundle.js" charset="UTF-8"></script>
    <script>SwaggerUIBundle({url: "./openapi.json", dom_id: "#swagger-ui"});</script>
  </body>
</html>
"""


def document(info: Info) -> Json:
    """The OpenAPI 3.1 document for the bundle that is served.

    It states the limits. It has `text_b` only for a bundle that classifies pairs, and `domain` only for one with domains.
    """
    models = (Request, Prediction, Predictions, Explanation, Refusal, Info)
    _, schemas = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    components = schemas["$defs"]
    _specialise(components["Request"], info)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"pocketbert: {info.name}",
            "version": info.version,
            "description": f"Classifies {'pairs of ' if info.pair else ''}texts as one of: {', '.join(info.labels)}.",
        },
        "paths": {
            "/classify": {"post": _classify(info)},
            "/explain": {"post": _explain(info)},
            "/info": {"get": _operation("The bundle, its labels, the precision and the limits", Info)},
            "/livez": {"get": _plain("200 while the process runs")},
            "/readyz": {"get": _plain("200 once the model is loaded, 503 before that and while the worker stops")},
            "/metrics": {"get": _plain("Prometheus metrics")},
        },
        "components": {"schemas": components},
    }


def _classify(info: Info) -> Json:
    operation = _operation("Label and probability of a text, or of each text of a list", Prediction, Predictions)
    operation["description"] = (
        "One text is answered by a Prediction, a list by Predictions. The body is read as UTF-8 JSON whatever the "
        f"content type says. A text is cut at {info.max_length} tokens."
    )
    return operation | _body(info, operation["responses"])


def _explain(info: Info) -> Json:
    operation = _operation(
        "Label and probability of a text, and how much each of its words speaks for the label", Explanation
    )
    operation["description"] = (
        "The text is classified again without each of its words. A word's weight is by how much the log-odds of the label, "
        "log(p / (1 - p)), fall without it. All these texts together keep to the limits of one request to /classify; a list "
        "is refused."
    )
    return operation | _body(info, operation["responses"])


def _body(info: Info, responses: Json) -> Json:
    """The body that /classify and /explain take, and the refusals of a wrong one beside the other `responses`."""
    example: Json = {"text": "a charming film"}
    if info.pair:
        example["text_b"] = "a film that charms"
    too_large = f"Over {info.max_bytes} bytes, {info.max_texts} texts, or {info.max_characters} characters in a text"
    invalid = "The body is not JSON, or a field is wrong, missing, unknown or blank"
    busy = "Too much work waits; the header Retry-After says after how many seconds to try again"
    late = "The time of X-Request-Timeout-Ms was over before the request's turn"
    refusals = {
        "413": {"description": too_large, **_json(_reference(Refusal))},
        "422": {"description": invalid, **_json(_reference(Refusal))},
        "429": {"description": busy, **_json(_reference(Refusal))},
        "504": {"description": late, **_json(_reference(Refusal))},
    }
    body = {"required": True, **_json(_reference(Request), example=example)}
    timeout = {
        "name": "X-Request-Timeout-Ms",
        "in": "header",
        "description": "How long you wait. A request that cannot be answered by then is not run.",
        "schema": {"type": "integer", "minimum": 0, "maximum": 999_999_999},
    }
    return {"requestBody": body, "parameters": [timeout], "responses": responses | refusals}


def _specialise(request: Json, info: Info) -> None:
    properties = request["properties"]
    string, array = properties["text"]["anyOf"]
    for text in (string, array["items"]):
        text.update(minLength=1, maxLength=info.max_characters)
    array["maxItems"] = info.max_texts
    domain = properties.pop("domain")
    if info.domains:
        described = {name: domain[name] for name in ("title", "description")}
        properties["domain"] = {"type": "string", "enum": info.domains, **described}
    text_b = properties.pop("text_b")
    if info.pair:
        properties["text_b"] = properties["text"] | {"title": text_b["title"], "description": text_b["description"]}
        request["required"].append("text_b")


def _operation(summary: str, *answers: type[BaseModel]) -> Json:
    schema = _reference(answers[0]) if len(answers) == 1 else {"oneOf": [_reference(answer) for answer in answers]}
    return {"summary": summary, "responses": {"200": {"description": "OK", **_json(schema)}}}


def _json(schema: Json, **more: Json) -> Json:
    return {"content": {"application/json": {"schema": schema, **more}}}


def _plain(summary: str) -> Json:
    return {"summary": summary, "responses": {"200": {"description": "OK", "content": {"text/plain": {}}}}}


def _reference(model: type[BaseModel]) -> Json:
    return {"$ref": f"#/components/schemas/{model.__name__}"}
