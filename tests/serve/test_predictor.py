"""A bundle that cannot be served is refused when it is loaded. The message has the place and the cure."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnxruntime import get_available_providers

from compress.runtime.errors import UserError
from export.bundle import MANIFEST, TOKENIZER, file_entry
from serve.predictor import Predictor
from serve.settings import Settings
from tests.conftest import MakeBundle

MODEL = "model.fp32.onnx"


def rewrite(bundle: Path, **fields: object) -> None:
    """Change fields of the manifest, and make its hashes those of the files as they are now."""
    manifest = json.loads((bundle / MANIFEST).read_text())
    manifest["files"] = {name: file_entry(bundle / name).model_dump() for name in manifest["files"]}
    (bundle / MANIFEST).write_text(json.dumps(manifest | fields))


def put_nan_into_the_model(bundle: Path) -> None:
    model = onnx.load(bundle / MODEL)
    projection = next(one for one in model.graph.initializer if one.name == "projection")
    projection.CopyFrom(numpy_helper.from_array(np.full((2, 2), np.nan, np.float32), "projection"))
    onnx.save(model, bundle / MODEL)
    rewrite(bundle)


def rename_an_input(bundle: Path) -> None:
    model = onnx.load(bundle / MODEL)
    model.graph.input[0].name = "tokens_of_text"
    for node in model.graph.node:
        node.input[:] = ["tokens_of_text" if name == "input_ids" else name for name in node.input]
    onnx.save(model, bundle / MODEL)
    rewrite(bundle)


def replace(name: str, content: bytes, *, fix_hashes: bool) -> Callable[[Path], None]:
    def change(bundle: Path) -> None:
        (bundle / name).write_bytes(content)
        if fix_hashes:
            rewrite(bundle)

    return change


@pytest.mark.parametrize(
    ("damage", "place"),
    [
        (lambda bundle: (bundle / MODEL).unlink(), MODEL),
        (lambda bundle: (bundle / MANIFEST).unlink(), "no manifest.json"),
        (replace(MODEL, b"x", fix_hashes=False), "truncated"),
        (replace(MANIFEST, b"{", fix_hashes=False), MANIFEST),
        (replace(MODEL, b"no model", fix_hashes=True), MODEL),
        (replace(TOKENIZER, b"{}", fix_hashes=True), TOKENIZER),
        (lambda bundle: rewrite(bundle, format=99), "format 99"),
        (lambda bundle: rewrite(bundle, labels=["one", "two", "three"], golden=None), "3 labels"),
        (put_nan_into_the_model, "not finite"),
        (rename_an_input, "cannot be run"),
    ],
    ids=["no-model", "no-manifest", "truncated", "manifest", "model", "tokenizer", "format", "labels", "nan", "inputs"],
)
def test_a_broken_bundle_is_refused(make_bundle: MakeBundle, damage: Callable[[Path], object], place: str) -> None:
    bundle = make_bundle()
    damage(bundle)
    with pytest.raises(UserError, match=place):
        Predictor(Settings(bundle=bundle))


def test_a_precision_that_the_bundle_lacks_is_refused_with_those_it_has(tiny_bundle: Path) -> None:
    with pytest.raises(UserError, match="no precision 'int4'; the bundle has fp32"):
        Predictor(Settings(bundle=tiny_bundle, precision="int4"))


@pytest.mark.skipif("CUDAExecutionProvider" in get_available_providers(), reason="this ONNX Runtime has CUDA")
def test_a_device_that_is_not_there_is_refused_and_not_replaced_by_the_cpu(tiny_bundle: Path) -> None:
    with pytest.raises(UserError, match="CUDA"):
        Predictor(Settings(bundle=tiny_bundle, device="cuda"))


def test_the_newest_bundle_is_served_if_none_is_named(make_bundle: MakeBundle) -> None:
    make_bundle("old")
    artifacts = make_bundle("new").parents[1]
    assert Predictor(Settings(artifacts=artifacts)).info.name == "new"
