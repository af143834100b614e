"""fp16 for a GPU. ONNX Runtime on a CPU computes it with casts, which shows that the graph is right; no GPU is needed."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from compress.runtime.errors import UserError
from export.bundle import MANIFEST, Bundle, find_bundle
from export.half import to_fp16
from export.onnx import export_onnx
from export.session import OnnxModel, default_precision, teacher_session
from export.verify import verify_bundle
from tests.conftest import make_tiny_bundle
from tests.e2e.test_families import run
from tests.export.test_export import make_student, random_texts
from tests.tiny_cascade import add_cascade
from tests.tiny_teachers import tiny_teacher_of


@pytest.mark.parametrize("kind", ["cnn", "transformer"])
def test_fp16_gives_the_labels_of_fp32_with_half_the_bytes(tmp_path: Path, kind: str) -> None:
    model = make_student(tmp_path / "model", pair=False) if kind == "cnn" else _bert(tmp_path / "model")
    fp32, fp16 = tmp_path / "fp32.onnx", tmp_path / "fp16.onnx"
    export_onnx(model, fp32, pair=False, max_length=64)
    to_fp16(fp32, fp16)
    weights = [onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(fp16).graph.initializer]
    assert sum(w.nbytes for w in weights if w.dtype == np.float16) > 0.95 * sum(
        w.nbytes for w in weights if w.dtype.kind == "f"
    )
    texts = random_texts()
    exact, half = (OnnxModel(file).logits_in_batches(texts, 0) for file in (fp32, fp16))  # padded batches
    assert half.dtype == np.float32
    assert 0 < np.abs(half - exact).max() < 0.01 * np.abs(exact).max()
    sure = np.ptp(exact, axis=1) > 0.02 * np.abs(exact).max()
    assert (half.argmax(axis=1) == exact.argmax(axis=1))[sure].all()


def test_a_recipe_with_fp16_gives_a_bundle_that_answers_in_it_on_a_gpu(tmp_path: Path) -> None:
    tiny_teacher_of("bert", tmp_path / "teacher")
    run(tmp_path, 'export.precisions=["fp16"]', "export.budget=100", "export.min_agreement=0")
    bundle = Bundle(find_bundle(tmp_path / "artifacts"))
    assert [*bundle.manifest.models] == ["fp32", "fp16"]  # fp32 is for a CPU
    entry = bundle.manifest.models["fp16"]
    assert entry.passed
    assert entry.agreement is not None
    assert entry.calibration is not None
    assert default_precision(bundle, "cpu") is None
    assert bundle.model(default_precision(bundle, "cpu"))[0] == "fp32"
    assert default_precision(bundle, "cuda") == "fp16"
    assert "fp16: not run, since it is made for a GPU" in [*verify_bundle(bundle)]


def test_fp16_that_failed_the_gate_does_not_answer_unasked(tmp_path: Path) -> None:
    directory = make_tiny_bundle(tmp_path / "bundle")
    manifest = Bundle(directory).manifest
    failed = manifest.models["fp32"].model_copy(update={"passed": False})
    changed = manifest.model_copy(update={"models": {**manifest.models, "fp16": failed}})
    (directory / MANIFEST).write_text(changed.model_dump_json(), encoding="utf-8")
    assert default_precision(Bundle(directory), "cuda") == "fp32"


def test_a_cascade_with_a_teacher_for_a_cpu_is_refused_on_a_gpu(tmp_path: Path) -> None:
    bundle = Bundle(add_cascade(make_tiny_bundle(tmp_path / "bundle")))
    assert bundle.manifest.cascade is not None
    with pytest.raises(UserError, match=r"teacher of its cascade is in INT8.*export\.precisions"):
        teacher_session(bundle.directory, bundle.manifest.cascade, bundle.manifest.max_length, device="cuda")


def _bert(directory: Path) -> Path:
    return tiny_teacher_of("bert", directory, vocab_size=300)
