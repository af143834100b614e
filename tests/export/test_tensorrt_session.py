"""Engines of a bundle: what is checked before they run, and how they are run, on a GPU of plain memory (`fake_gpu.py`)."""

from __future__ import annotations

import gc
import importlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from compress.runtime.errors import UserError
from export import cuda, tensorrt_session
from export.__main__ import app
from export.bundle import MANIFEST, Bundle, file_entry
from export.golden import check_golden
from export.manifest import ENGINE_GRAPH, Calibration, CurvePoint, Engine, Route
from export.pack import pack
from export.rebuild import rebuild
from export.session import BundleSession, is_for
from export.tensorrt import shape_profile
from export.verify import verify_bundle
from pocketbert import Classifier
from serve import swap
from serve.cascade import open_cascades
from serve.settings import Settings
from tests.conftest import make_tiny_bundle
from tests.export.fake_gpu import FakeCuda, FakeTensorRt
from tests.tiny_cascade import add_cascade

TEXTS = ["good", "a very very very bad film", "good good film", "bad", "the film was good", "so so " * 12] * 7
ENGINE = "model.tensorrt.engine"


def edit(directory: Path, **changes: Any) -> None:
    """Change fields of the bundle's engine in its manifest."""
    manifest = Bundle(directory).manifest
    entry = manifest.models["tensorrt"]
    assert entry.engine is not None
    changed = entry.model_copy(update={"engine": entry.engine.model_copy(update=changes)})
    models = manifest.models | {"tensorrt": changed}
    (directory / MANIFEST).write_text(manifest.model_copy(update={"models": models}).model_dump_json())


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle with an engine, which is the fp32 graph for the fake TensorRT."""
    directory = make_tiny_bundle(tmp_path / "bundle")
    for name in (ENGINE, "model.tensorrt.onnx"):
        shutil.copyfile(directory / "model.fp32.onnx", directory / name)
    manifest = Bundle(directory).manifest
    fp32 = manifest.models["fp32"]
    engine = Engine(
        package="tensorrt",
        version="1.2.3",
        compute_capability="8.9",
        shapes=shape_profile([5, 20], 64),
        graph_sha256=file_entry(directory / "model.fp32.onnx").sha256,
    )
    calibration = Calibration(temperature=2.0, ece_before={}, ece_after={})
    models = {
        ENGINE_GRAPH: fp32.model_copy(update={"file": "model.tensorrt.onnx", "calibration": calibration}),
        "tensorrt": fp32.model_copy(
            update={"file": ENGINE, "runtime": "tensorrt", "engine": engine, "calibration": calibration}
        ),
    }
    golden = Bundle(directory).golden()
    assert golden is not None
    golden = golden.model_copy(update={"logits": golden.logits | {ENGINE_GRAPH: golden.logits["fp32"]}})
    (directory / "golden.json").write_text(golden.model_dump_json())
    files = {name: file_entry(directory / name) for name in [*manifest.files, ENGINE, "model.tensorrt.onnx"]}
    changed = manifest.model_copy(update={"models": manifest.models | models, "files": files})
    (directory / MANIFEST).write_text(changed.model_dump_json())
    return directory


@pytest.fixture(params=["tensorrt", "tensorrt-rtx"])
def gpu(request: pytest.FixtureRequest, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """A GPU of compute capability 8.9 and the package for which the bundle's engine was built."""
    device = FakeCuda()
    monkeypatch.setattr(cuda, "cuda_runtime", lambda: device)
    module = FakeTensorRt(device, rtx=request.param == "tensorrt-rtx")
    for name in tensorrt_session.PACKAGES:
        monkeypatch.setitem(sys.modules, name, module)
    edit(bundle, package=request.param)
    return device


def refusal(directory: Path) -> str:
    with pytest.raises(UserError) as caught:
        BundleSession(Bundle(directory), precision="tensorrt", device="cuda")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_engine_gives_the_logits_of_its_graph(bundle: Path, gpu: FakeCuda) -> None:
    session = BundleSession(Bundle(bundle), precision="tensorrt", device="cuda")
    expected = BundleSession(Bundle(bundle), precision=ENGINE_GRAPH)
    encoded = session.encoder.encode(TEXTS)
    for batch_size in (1, 3, 32, 64):  # the engine takes 32 texts at most
        found = session.logits(encoded, batch_size)
        np.testing.assert_allclose(found, expected.logits(encoded), atol=1e-6)
    kept = session.logits(encoded[:1])
    session.logits(encoded[1:2])
    np.testing.assert_array_equal(kept, session.logits(encoded[:1]))  # no view of a buffer that is used again
    np.testing.assert_allclose(session.predict(TEXTS), expected.predict(TEXTS), atol=1e-6)  # the same temperature


def test_each_shape_is_recorded_once_and_given_back(bundle: Path, gpu: FakeCuda) -> None:
    session = BundleSession(Bundle(bundle), precision="tensorrt", device="cuda")
    session.predict(["good"])
    held, launched = len(gpu.held), gpu.launched
    session.predict(["a bad film"])  # as many tokens, after padding
    assert len(gpu.held) == held
    records_itself = hasattr(tensorrt_session.load_tensorrt()[0], "CudaGraphStrategy")
    assert (launched, gpu.launched) == ((0, 0) if records_itself else (1, 2))
    session.predict(["good " * 30])
    assert len(gpu.held) == 2 * held
    del session
    gc.collect()
    assert not gpu.held


def test_a_classifier_the_golden_examples_and_a_swap_use_the_engine(
    bundle: Path, gpu: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = Classifier.load(bundle, precision="tensorrt", device="cuda")
    assert classifier.predict("a good film").label == "positive"
    session = BundleSession(Bundle(bundle), precision="tensorrt", device="cuda")
    golden = Bundle(bundle).golden()
    assert golden is not None
    assert check_golden(session, golden) < 1e-5  # as `verify` does
    monkeypatch.setenv("POCKETBERT_DEVICE", "cuda")
    monkeypatch.setenv("POCKETBERT_PRECISION", "tensorrt")
    swap.check(bundle)  # what a server does before it takes another bundle


def test_a_packed_engine_brings_its_graph_and_has_the_threshold_of_that(
    bundle: Path, gpu: FakeCuda, tmp_path: Path
) -> None:
    models = Bundle(bundle).manifest.models
    manifest = Bundle(add_cascade(bundle)).manifest  # which leaves only the fp32 student
    assert manifest.cascade is not None
    point = CurvePoint(share=0.3, threshold=0.7, accuracy=0.9, ms=2.0)
    routes = {
        ENGINE_GRAPH: Route(chosen=point, curve=[point], student_ms=1, teacher_ms=9)
    }  # no route of the engine itself
    cascade = manifest.cascade.model_copy(update={"routes": routes})
    (bundle / MANIFEST).write_text(manifest.model_copy(update={"cascade": cascade, "models": models}).model_dump_json())
    packed = pack(Bundle(bundle), tmp_path / "packed", precisions=["tensorrt"])
    assert [*packed.manifest.models] == ["tensorrt", ENGINE_GRAPH]
    session = BundleSession(packed, device="cuda", precision="tensorrt")
    opened = open_cascades(packed, {None: session}, Settings(bundle=packed.directory))
    assert opened[None].threshold == 0.7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"version": "1.2.2"},
            r"1\.2\.2, and here is 1\.2\.3; build it again: `pocketbert rebuild .*bundle`, or pip install .*==1\.2\.2",
        ),
        (
            {"compute_capability": "9.0"},
            r"capability 9\.0, and this one has 8\.9; build it again: `pocketbert rebuild .*bundle`",
        ),
        ({"graph_sha256": "0" * 64}, r"another bundle's; export the bundle again"),
    ],
)
def test_a_mismatch_is_one_line_with_its_cure(
    bundle: Path, gpu: FakeCuda, changes: dict[str, str], message: str
) -> None:
    edit(bundle, **changes)
    with pytest.raises(UserError, match=message):
        BundleSession(Bundle(bundle), precision="tensorrt", device="cuda")
    assert not gpu.held


def test_a_file_that_is_no_engine(bundle: Path, gpu: FakeCuda) -> None:
    (bundle / ENGINE).write_bytes(b"no engine")
    manifest = json.loads((bundle / MANIFEST).read_text())
    manifest["files"][ENGINE] = file_entry(bundle / ENGINE).model_dump()
    (bundle / MANIFEST).write_text(json.dumps(manifest))
    assert "cannot load it" in refusal(bundle)


def test_an_engine_needs_a_gpu(bundle: Path) -> None:
    with pytest.raises(
        UserError, match=f"runs on a GPU; choose the device cuda, or a precision among fp32, {ENGINE_GRAPH}"
    ):
        BundleSession(Bundle(bundle), precision="tensorrt")


def test_verify_runs_what_is_made_for_the_device(bundle: Path) -> None:
    lines = list(verify_bundle(Bundle(bundle)))
    assert "tensorrt: not run, since it is made for a GPU" in lines
    assert any(line.startswith(f"{ENGINE_GRAPH}: ") and "golden examples" in line for line in lines)
    models = Bundle(bundle).manifest.models
    assert is_for("cuda", "tensorrt", models["tensorrt"])
    assert not is_for("cuda", "int8", models["fp32"])
    assert is_for("cuda", "fp32", models["fp32"])
    edit(bundle, graph_sha256="0" * 64)
    with pytest.raises(UserError, match="another bundle's"):
        list(verify_bundle(Bundle(bundle)))


def test_without_a_gpu_the_line_says_so(bundle: Path) -> None:
    """With the packages that are really here: TensorRT for RTX may be, a GPU is not in the machines of the tests."""
    rtx = pytest.importorskip("tensorrt_rtx_bindings", reason="needs pip install '.[rtx]'")
    edit(bundle, package="tensorrt-rtx", version="0.1")
    assert "pip install tensorrt-rtx-cu13-libs==0.1" in refusal(bundle)
    edit(bundle, version=rtx.__version__)
    try:
        importlib.import_module("cuda.bindings.runtime")
    except ImportError:
        assert "cuda-bindings is not installed" in refusal(bundle)
    else:
        try:
            cuda.compute_capability()
        except UserError:
            assert "nvidia-smi" in refusal(bundle)
        else:
            pytest.skip("there is a GPU")


def test_the_shapes_of_an_engine_come_from_the_lengths_of_the_texts() -> None:
    shapes = shape_profile([10] * 90 + [20] * 9 + [60], 100)
    assert (shapes.smallest, shapes.optimal, shapes.largest) == ((1, 1), (1, 32), (32, 100))
    assert shape_profile([3], 100).optimal == (1, 16)  # no shorter batch is run
    assert shape_profile([99, 100], 100).optimal == (1, 100)
    assert shape_profile([5], 8).optimal == (1, 8)


def test_the_engines_of_a_bundle_are_built_again_for_other_gpus_without_one(bundle: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings", reason="needs pip install '.[rtx]'")
    before = Bundle(bundle)
    made = []
    for capability in ("8.6", "12.0"):
        done = CliRunner().invoke(app, ["rebuild", str(bundle), "--compute-capability", capability])
        assert done.exit_code == 0, done.exception
        after = Bundle(bundle)  # checks the hashes
        entry = after.manifest.models["tensorrt"]
        assert entry.engine is not None
        assert (entry.engine.package, entry.engine.compute_capability) == ("tensorrt-rtx", capability)
        assert entry.engine.graph_sha256 == after.manifest.files["model.tensorrt.onnx"].sha256
        assert capability in entry.note
        assert [*verify_bundle(after)]  # no file that the manifest does not list
        made.append((bundle / entry.file).read_bytes())
    assert made[0] != made[1]
    assert after.manifest.models["tensorrt"].calibration == before.manifest.models["tensorrt"].calibration
    assert after.sha256 != before.sha256


def test_a_bundle_without_an_engine_says_how_to_get_one(tmp_path: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "bundle")
    with pytest.raises(UserError, match=r"no TensorRT engine; export it with --target tensorrt"):
        rebuild(Bundle(bundle), "8.9")


def test_a_rebuild_that_fails_leaves_the_bundle_as_it_was(bundle: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings", reason="needs pip install '.[rtx]'")
    files = sorted(path.name for path in bundle.iterdir())
    with pytest.raises(UserError, match=r"does not build for 1\.0"):
        rebuild(Bundle(bundle), "1.0")
    assert sorted(path.name for path in bundle.iterdir()) == files
    assert [*verify_bundle(Bundle(bundle))]
