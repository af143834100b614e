import json
import os
from pathlib import Path

import numpy as np
import pytest

from compress.runtime.encode import pad_batch
from compress.runtime.errors import UserError
from export.batching import pad_to_power_of_two
from export.bundle import Bundle, newest_bundle
from export.manifest import FORMAT
from export.session import BundleSession, OnnxModel
from tests.conftest import make_tiny_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_tiny_bundle(tmp_path / "bundle")


def edit_manifest(bundle: Path, **changes: object) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps(manifest | changes))


def refusal(bundle: Path) -> str:
    with pytest.raises(UserError) as caught:
        Bundle(bundle)
    assert "\n" not in str(caught.value)
    assert str(bundle) in str(caught.value)
    return str(caught.value)


def test_a_complete_bundle_classifies(bundle: Path) -> None:
    session = BundleSession(Bundle(bundle))
    probabilities = session.predict(["a good film", "a bad film"], batch_size=1)
    assert probabilities.argmax(axis=1).tolist() == [1, 0]
    assert probabilities.sum(axis=1) == pytest.approx([1, 1])


def test_answers_come_in_the_order_of_the_texts(bundle: Path) -> None:
    session = BundleSession(Bundle(bundle))
    texts = ["good", "a very very very bad film", "good good film", "bad", "the film was good"]
    together = session.predict(texts, batch_size=2)
    alone = [session.predict([text])[0] for text in texts]
    np.testing.assert_allclose(together, np.stack(alone), atol=1e-6)


def test_a_truncated_file(bundle: Path) -> None:
    os.truncate(bundle / "model.fp32.onnx", 100)
    assert "truncated" in refusal(bundle)


def test_a_file_that_the_system_does_not_let_read(bundle: Path) -> None:
    """A name that is too long, as the tests may run as root, who may read every file."""
    files = json.loads((bundle / "manifest.json").read_text())["files"]
    edit_manifest(bundle, files=files | {"x" * 300: files["tokenizer.json"]})
    assert "cannot be read (File name too long); let this user read the bundle" in refusal(bundle)


def test_an_altered_file(bundle: Path) -> None:
    file = bundle / "tokenizer.json"
    file.write_bytes(file.read_bytes().replace(b"good", b"goof"))
    assert "SHA-256" in refusal(bundle)


def test_a_missing_file(bundle: Path) -> None:
    (bundle / "tokenizer.json").unlink()
    assert "missing" in refusal(bundle)


def test_another_format_version(bundle: Path) -> None:
    edit_manifest(bundle, format=FORMAT + 1)
    assert f"format {FORMAT + 1}" in refusal(bundle)
    assert "install a newer pocketbert" in refusal(bundle)


def test_json_that_is_no_manifest(bundle: Path) -> None:
    edit_manifest(bundle, format=None)
    assert "is not the manifest of a bundle" in refusal(bundle)


def test_a_manifest_of_deep_json_is_refused_and_is_not_the_newest(bundle: Path) -> None:
    folder = bundle.parent / "artifacts"
    good = make_tiny_bundle(folder / "good" / "bundle")
    deep = make_tiny_bundle(folder / "deep" / "bundle")
    (deep / "manifest.json").write_text("[" * 100_000)
    assert "cannot be read" in refusal(deep)
    assert newest_bundle(folder) == good


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1}', '"text"', "\xff"])
def test_a_manifest_that_is_not_valid(bundle: Path, content: str) -> None:
    (bundle / "manifest.json").write_bytes(content.encode("latin-1"))
    assert "export the bundle again" in refusal(bundle)


def test_a_directory_without_a_bundle(tmp_path: Path) -> None:
    assert "pocketbert compress" in refusal(tmp_path)
    with pytest.raises(UserError, match="pocketbert compress"):
        newest_bundle(tmp_path)


def test_the_newest_bundle_is_the_one_made_last_not_the_one_copied_last(tmp_path: Path) -> None:
    for name, created in (("late", "2026-02-01T00:00:00+00:00"), ("early", "2026-01-01T00:00:00+00:00")):
        edit_manifest(make_tiny_bundle(tmp_path / name / "bundle"), created=created)
    (tmp_path / "broken" / "bundle").mkdir(parents=True)
    (tmp_path / "broken" / "bundle" / "manifest.json").write_text("{")
    assert newest_bundle(tmp_path) == tmp_path / "late" / "bundle"


def test_an_unknown_precision_names_the_known_ones(bundle: Path) -> None:
    with pytest.raises(UserError, match="no precision 'int4'; the bundle has fp32"):
        BundleSession(Bundle(bundle), precision="int4")


def test_cuda_without_a_provider_is_an_error_and_does_not_fall_back(bundle: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(UserError, match="CUDAExecutionProvider"):
        BundleSession(Bundle(bundle), device="cuda")


def test_batches_padded_to_powers_of_two_have_few_shapes_and_the_same_logits(bundle: Path) -> None:
    session = BundleSession(Bundle(bundle))
    file = session.manifest.models["fp32"].file
    padding_model = OnnxModel(bundle / file, pad_up_to=40)
    texts = [" ".join(["good", "bad", "film"] * n) for n in range(1, 14)]
    shapes = set()
    for count in range(1, len(texts)):
        batch = pad_batch(session.encoder.encode(texts[:count]), session.manifest.pad_token_id)
        padded = pad_to_power_of_two(batch, 40)
        shapes.add(padded["input_ids"].shape)
        assert (padded["attention_mask"][:count].sum(axis=1) == batch["attention_mask"].sum(axis=1)).all()
        np.testing.assert_allclose(padding_model.logits(batch), session.model.logits(batch), atol=1e-5)
    assert shapes == {(1, 16), (2, 16), (4, 16), (8, 32), (16, 32), (16, 40)}


def test_a_batch_longer_than_the_maximum_is_not_cut(bundle: Path) -> None:
    ids = np.ones((3, 50), np.int64)
    assert pad_to_power_of_two({"input_ids": ids}, 40)["input_ids"].shape == (4, 50)


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_text("no model")
    with pytest.raises(UserError, match="cannot load it"):
        OnnxModel(tmp_path / "x.onnx")


def test_a_model_that_is_not_among_the_files(bundle: Path) -> None:
    files = json.loads((bundle / "manifest.json").read_text())["files"]
    edit_manifest(bundle, files={name: entry for name, entry in files.items() if name != "model.fp32.onnx"})
    assert "model.fp32.onnx is not among its files" in refusal(bundle)
