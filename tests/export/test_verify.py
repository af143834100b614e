"""`python -m export inspect` and `verify`, and what they say of a bundle with a fault: one line, and a status that is not 0."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from compress.runtime.errors import UserError
from export.accuracy import standard_error
from export.bundle import MANIFEST, Bundle, file_entry
from export.evaluation import allowed_drop, read_labelled
from export.golden import GOLDEN, check_golden, teacher_examples
from export.manifest import Engine
from export.session import BundleSession, teacher_session
from export.tensorrt import shape_profile
from export.verify import verify_bundle
from serve.swap import check
from tests.conftest import make_tiny_bundle
from tests.tiny_cascade import add_cascade, replace_teacher, student_times

ROOT = Path(__file__).parents[2]
MODEL = "model.fp32.onnx"
# A serving image has none of these.
WITHOUT = ("torch", "transformers", "datasets", "accelerate", "onnx", "sklearn", "pandas", "scipy", "filelock")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_tiny_bundle(tmp_path / "bundle")


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """`python -m export ARGUMENTS` where only the packages for serving are installed."""
    program = f"import runpy, sys; sys.modules.update(dict.fromkeys({WITHOUT})); runpy.run_module('export', run_name='__main__')"
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT
    )


def refusal(bundle: Path) -> str:
    """The one line of a bundle in which something is wrong."""
    with pytest.raises(UserError) as caught:
        list(verify_bundle(Bundle(bundle)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rewrite(bundle: Path, **changes: Any) -> None:
    """Change the manifest, and let it have the hashes of the files that are there."""
    manifest = json.loads((bundle / MANIFEST).read_text()) | changes
    manifest["files"] = {
        name: file_entry(bundle / name).model_dump() for name in manifest["files"] if (bundle / name).is_file()
    }
    (bundle / MANIFEST).write_text(json.dumps(manifest))


def edit_model(bundle: Path, change: Callable[[Any], Any]) -> None:
    model = onnx.load(bundle / MODEL)
    (projection,) = (one for one in model.graph.initializer if one.name == "projection")
    projection.CopyFrom(onnx.numpy_helper.from_array(change(onnx.numpy_helper.to_array(projection)), "projection"))
    onnx.save(model, bundle / MODEL)


def test_a_whole_bundle_is_verified_with_the_packages_for_serving_alone(bundle: Path, tmp_path: Path) -> None:
    table = tmp_path / "dev.csv"
    table.write_text("text,label\n" + "a good film,positive\na bad film,negative\n" * 5)
    done = command("verify", bundle, "--data", table)
    assert done.returncode == 0, done.stderr
    assert "3 files" in done.stdout
    assert "fp32: 3 golden examples, logits within 0.0e+00" in done.stdout
    assert f"fp32: 100.00% ± 0.00 on 10 texts ({table})" in done.stdout
    table.write_text("text,label\n" + "a good film,negative\na bad film,positive\n" * 5)
    done = command("verify", bundle, "--data", table)
    assert done.returncode == 2
    assert done.stderr.startswith("error: fp32: 0.00% ± 0.00 on 10 texts")
    assert done.stderr.count("\n") == 1
    assert "verified" not in done.stdout


def test_inspect_shows_the_graph_that_runs_and_where_its_time_goes(bundle: Path) -> None:
    done = command("inspect", bundle, "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    (model,) = facts["models"]
    assert (model["precision"], model["verdict"]) == ("fp32", "passed")
    assert model["bytes"] == (bundle / MODEL).stat().st_size
    operators = {one["operator"]: one for one in model["operators"]}
    assert "Identity" not in operators  # ONNX Runtime has removed it
    assert {"Gather", "ReduceSum", "MatMul"} <= operators.keys()
    assert operators["ReduceSum"]["nodes"] == 2
    assert model["nodes"] == sum(one["nodes"] for one in model["operators"])
    assert sum(one["share"] for one in model["operators"]) == pytest.approx(1, abs=0.01)
    assert model["conv_share"] == 0
    assert facts["provenance"]["files"][MODEL] == file_entry(bundle / MODEL).sha256


def truncate(bundle: Path) -> None:
    os.truncate(bundle / MODEL, 100)


def truncate_and_list(bundle: Path) -> None:
    truncate(bundle)
    rewrite(bundle)


def change_one_byte_of_the_tokenizer(bundle: Path) -> None:
    content = bytearray((bundle / "tokenizer.json").read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / "tokenizer.json").write_bytes(content)


def change_the_tokenizer_and_list(bundle: Path) -> None:
    file = bundle / "tokenizer.json"
    file.write_text(file.read_text().replace('"good"', '"goof"'))
    rewrite(bundle)


def change_the_order_of_the_labels(bundle: Path) -> None:
    rewrite(bundle, labels=["positive", "negative"])


def put_in_another_model(bundle: Path) -> None:
    edit_model(bundle, lambda projection: projection[::-1])
    rewrite(bundle)


def put_in_a_model_of_three_labels(bundle: Path) -> None:
    edit_model(bundle, lambda projection: np.eye(2, 3, dtype=np.float32))
    rewrite(bundle)


def put_in_the_engine_of_another_bundle(bundle: Path) -> None:
    (bundle / "model.engine").write_bytes(b"an engine")
    of_another_graph = Engine(
        package="tensorrt-rtx",
        version="1",
        compute_capability="8.9",
        shapes=shape_profile([8], 32),
        graph_sha256="0" * 64,
    )
    manifest = Bundle(bundle).manifest
    changes = {"file": "model.engine", "runtime": "tensorrt", "engine": of_another_graph}
    models = manifest.models | {"tensorrt": manifest.models["fp32"].model_copy(update=changes)}
    files = manifest.files | {"model.engine": file_entry(bundle / "model.engine")}
    changed = manifest.model_copy(update={"models": models, "files": files})
    (bundle / MANIFEST).write_text(changed.model_dump_json())


def add_a_file(bundle: Path) -> None:
    (bundle / "code.py").write_text("")


def list_a_file_outside(bundle: Path) -> None:
    shutil.copyfile(bundle / "tokenizer.json", bundle.parent / "elsewhere.json")
    manifest = json.loads((bundle / MANIFEST).read_text())
    manifest["files"]["../elsewhere.json"] = manifest["files"]["tokenizer.json"]
    (bundle / MANIFEST).write_text(json.dumps(manifest))


def spoil_the_golden_examples(bundle: Path) -> None:
    (bundle / "golden.json").write_text("{}")
    rewrite(bundle)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (truncate, "truncated copy?"),
        (truncate_and_list, "ONNX Runtime cannot load it"),
        (change_one_byte_of_the_tokenizer, "its SHA-256 is not the manifest's"),
        (change_the_tokenizer_and_list, "the tokenizer gives other tokens for golden example 1"),
        (change_the_order_of_the_labels, "but the models were made for negative, positive, in this order"),
        (put_in_another_model, "another model, or a runtime that computes otherwise"),
        (put_in_a_model_of_three_labels, "gives logits of shape (3, 3)"),
        (put_in_the_engine_of_another_bundle, "built from a graph that is not in the bundle"),
        (add_a_file, "code.py: is not listed"),
        (list_a_file_outside, "'../elsewhere.json' is not inside the bundle"),
        (spoil_the_golden_examples, "holds no golden examples"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_fault_is_one_line(bundle: Path, spoil: Callable[[Path], None], message: str) -> None:
    spoil(bundle)
    assert message in refusal(bundle)


def test_a_provider_that_is_not_there_is_one_line(bundle: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    done = command("verify", bundle, "--device", "cuda")
    assert done.returncode == 2
    assert done.stderr.startswith("error: device 'cuda': this ONNX Runtime has no CUDAExecutionProvider")
    assert done.stderr.count("\n") == 1


def test_small_differences_between_cpus_pass_and_large_ones_do_not(bundle: Path) -> None:
    session, golden = BundleSession(Bundle(bundle)), Bundle(bundle).golden()
    assert golden is not None
    largest = np.abs(golden.logits["fp32"]).max()

    def shifted(by: float) -> Any:
        return golden.model_copy(update={"logits": {"fp32": (np.asarray(golden.logits["fp32"]) + by).tolist()}})

    assert check_golden(session, shifted(0.005 * largest)) == pytest.approx(0.005 * largest, rel=0.01)
    with pytest.raises(UserError, match="away from that at export"):
        check_golden(session, shifted(0.02 * largest))
    with pytest.raises(UserError, match="has no logits of this precision"):
        check_golden(session, golden.model_copy(update={"logits": {}}))


@pytest.mark.parametrize(("dev", "others"), [(100, 5_000), (5_000, 100), (400, 400)])
def test_a_model_that_is_as_good_as_at_export_is_refused_by_chance_as_often_as_two_standard_errors_say(
    dev: int, others: int
) -> None:
    rng, refused, draws = np.random.default_rng(0), 0, 4_000
    for on_dev, found in zip(
        rng.binomial(dev, 0.85, draws) / dev, rng.binomial(others, 0.85, draws) / others, strict=True
    ):
        refused += 100 * (on_dev - found) > allowed_drop(0.0, on_dev, standard_error(on_dev, dev), others)
    assert 0.005 < refused / draws < 0.05  # 2.3 % of a normal distribution are above two standard errors


def test_on_dev_itself_the_budget_is_all() -> None:
    assert allowed_drop(0.5, 0.85, 0.04, None) == 0.5


def test_what_is_wrong_in_the_table_is_named_with_its_line(bundle: Path, tmp_path: Path) -> None:
    table, manifest = tmp_path / "dev.csv", Bundle(bundle).manifest
    table.write_text("body,label\na good film,positive\na bad film,neutral\n")
    for path, columns, message in (
        (table, {"text": "body"}, "line 3: label 'neutral' is none of the bundle's"),
        (table, {}, "no column 'text'"),
        (tmp_path / "absent.csv", {}, "no such file"),
    ):
        with pytest.raises(UserError, match=message):
            read_labelled(path, manifest, **columns)
    pairs = manifest.model_copy(update={"pair": True})
    with pytest.raises(UserError, match="name the column of the second texts"):
        read_labelled(table, pairs)


def test_a_table_is_read_as_the_recipe_of_the_bundle_says(bundle: Path, tmp_path: Path) -> None:
    table = tmp_path / "dev.csv"
    table.write_text("body;mood\na good film;+\na bad film;-\n")
    data = {"text": "body", "label": "mood", "separator": ";", "relabel": {"+": "positive", "-": "negative"}}
    manifest = Bundle(bundle).manifest.model_copy(update={"provenance": {"recipe": {"data": data}}})
    assert read_labelled(table, manifest).split.labels == [1, 0]


def test_the_teacher_of_a_cascade_is_compared_too(bundle: Path) -> None:
    add_cascade(bundle)
    assert "teacher in int8: its answers were not compared" in list(verify_bundle(Bundle(bundle)))[-1]
    manifest = Bundle(bundle).manifest
    assert manifest.cascade is not None
    golden = Bundle(bundle).golden()
    assert golden is not None
    teacher = teacher_session(bundle, manifest.cascade, manifest.max_length)
    known = golden.model_copy(update={"teacher": teacher_examples(teacher, golden)})
    (bundle / GOLDEN).write_text(known.model_dump_json())
    rewrite(bundle)
    lines = list(verify_bundle(Bundle(bundle)))
    assert lines[-1].startswith("teacher in int8: 3 golden examples, logits within ")
    check(bundle)  # what a server does before it swaps
    replace_teacher(bundle, student_times(bundle, -0.8))
    assert "tiny, teacher in int8: a logit of the golden examples is" in refusal(bundle)
    with pytest.raises(UserError, match="teacher in int8: a logit of the golden examples"):
        check(bundle)
