"""A bundle with a student for each domain: a request goes to the student of its domain, or to the default one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from compress.runtime.errors import UserError
from export.bundle import MANIFEST, Bundle, file_entry
from export.session import BundleSession
from serve.predictor import Predictor
from serve.settings import Settings
from tests.conftest import make_tiny_bundle
from tests.serve.conftest import Client, serve
from tests.tiny_cascade import TEACHER, add_cascade


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two domains: "plain", the default, and "ironic", where good means bad."""
    directory = make_tiny_bundle(tmp_path_factory.mktemp("domains") / "tiny" / "bundle")
    model = onnx.load(directory / "model.fp32.onnx")
    (embedding,) = (tensor for tensor in model.graph.initializer if tensor.name == "embedding")
    embedding.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(embedding), "embedding"))
    (directory / "domains" / "ironic").mkdir(parents=True)
    onnx.save(model, directory / "domains" / "ironic" / "model.fp32.onnx")
    manifest = json.loads((directory / MANIFEST).read_text())
    ironic = "domains/ironic/model.fp32.onnx"
    entry = {"default": "fp32", "models": manifest["models"], "dev_accuracy_of_all": 0.9, "provenance": {}}
    other = {"fp32": manifest["models"]["fp32"] | {"file": ironic}}
    manifest["domains"] = {"plain": entry, "ironic": entry | {"models": other, "dev_accuracy_of_all": 0.1}}
    manifest["default_domain"] = "plain"
    manifest["files"][ironic] = file_entry(directory / ironic).model_dump()
    (directory / MANIFEST).write_text(json.dumps(manifest))
    return directory


@pytest.fixture(scope="module")
def client(bundle: Path) -> Client:
    return serve(bundle)


def test_the_domain_chooses_the_model(client: Client) -> None:
    labels = {
        domain: client.classify(text="a good film", **({"domain": domain} if domain else {})).json()["label"]
        for domain in ("plain", "ironic", None)
    }
    assert labels == {"plain": "positive", "ironic": "negative", None: "positive"}
    answer = client.classify(text=["good", "bad"], domain="ironic").json()
    assert [result["label"] for result in answer["results"]] == ["negative", "positive"]


@pytest.mark.parametrize(
    ("domain", "message"),
    [
        ("music", "domain: 'music' is unknown; send one of plain, ironic, or none"),
        ("", "domain: '' is unknown; send one of plain, ironic, or none"),
        ("x\n" * 100, "domain: '" + "x\\n" * 20 + "' is unknown; send one of plain, ironic, or none"),
        (7, "domain: must be a string"),
        (["plain"], "domain: must be a string"),
    ],
)
def test_an_unknown_domain_is_refused_with_a_list_of_the_known_ones(
    client: Client, domain: object, message: str
) -> None:
    response = client.classify(text="good", domain=domain)
    assert (response.status_code, response.json()) == (422, {"error": message})


def test_a_bundle_of_one_model_takes_no_domain(tiny_bundle: Path) -> None:
    response = serve(tiny_bundle).classify(text="good", domain="plain")
    assert response.status_code == 422
    assert response.json() == {"error": "domain: this bundle has one model for all texts; leave the field out"}


def test_info_and_the_openapi_document_list_the_domains(client: Client, tiny_bundle: Path) -> None:
    info = client.get("/info").json()
    assert (info["domains"], info["default_domain"]) == (["plain", "ironic"], "plain")
    properties = client.get("/openapi.json").json()["components"]["schemas"]["Request"]["properties"]
    assert properties["domain"]["enum"] == ["plain", "ironic"]
    other = serve(tiny_bundle)
    assert not {"domains", "default_domain"} & other.get("/info").json().keys()
    assert "domain" not in other.get("/openapi.json").json()["components"]["schemas"]["Request"]["properties"]


def test_a_session_without_a_domain_has_the_default_student(bundle: Path) -> None:
    probabilities = BundleSession(Bundle(bundle)).predict(["good"])
    assert probabilities.argmax() == 1
    ironic = BundleSession(Bundle(bundle), domain="ironic").predict(["good"])
    np.testing.assert_allclose(ironic, probabilities[:, ::-1], atol=1e-6)
    with pytest.raises(UserError, match="no domain 'music'; the bundle has plain, ironic"):
        Bundle(bundle).model(domain="music")


def test_a_precision_that_one_domain_lacks_is_refused_at_the_start(bundle: Path) -> None:
    with pytest.raises(UserError, match="no precision 'int8'; its domain 'plain' has fp32"):
        Predictor(Settings(bundle=bundle, precision="int8"))


def test_each_domain_has_its_cascade_and_a_shared_teacher_is_loaded_once(bundle: Path, tmp_path: Path) -> None:
    directory = tmp_path / "bundle"
    shutil.copytree(bundle, directory)
    plain = Bundle(add_cascade(make_tiny_bundle(tmp_path / "plain"), threshold=0.9)).manifest.cascade
    assert plain is not None
    shutil.copyfile(tmp_path / "plain" / TEACHER, directory / TEACHER)
    route = plain.routes["fp32"]
    never = route.model_copy(update={"chosen": route.curve[0]})
    cascades = {"plain": plain, "ironic": plain.model_copy(update={"routes": {"fp32": never}})}
    manifest = json.loads((directory / MANIFEST).read_text())
    manifest["files"][TEACHER] = file_entry(directory / TEACHER).model_dump()
    manifest["cascade"] = plain.model_dump()
    for domain, cascade in cascades.items():
        manifest["domains"][domain]["cascade"] = cascade.model_dump()
    (directory / MANIFEST).write_text(json.dumps(manifest))
    client = serve(directory)
    unsure = "good bad good the the a film"
    answers = [client.classify(text=unsure, **one).json() for one in ({}, {"domain": "plain"}, {"domain": "ironic"})]
    assert [one["model"] for one in answers] == ["teacher", "teacher", "student"]
    shown = client.get("/info").json()
    assert {domain: one["threshold"] for domain, one in shown["domain_cascades"].items()} == {"plain": 0.9, "ironic": 0}
    assert shown["cascade"] == shown["domain_cascades"]["plain"]
    teachers = {id(one.teacher.model) for one in client.app.state.predictor.cascades.values()}
    assert len(teachers) == 1
