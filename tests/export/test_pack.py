"""A packed bundle has the files that one server needs and no others, and answers as the whole one."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from compress.runtime.errors import UserError
from export.bundle import MANIFEST, Bundle, file_entry
from export.manifest import DomainEntry
from export.pack import pack
from export.session import BundleSession
from tests.conftest import MakeBundle
from tests.tiny_cascade import TEACHER, add_cascade, student_times
from tests.tiny_task import KilledError, at_call, killed_at


def add_int8(bundle: Path) -> Path:
    """Add a second precision, by name: the student with its logits halved, so that an answer tells which one gave it."""
    (bundle / "model.int8.onnx").write_bytes(student_times(bundle, 0.5))
    manifest = Bundle(bundle).manifest
    int8 = manifest.models["fp32"].model_copy(update={"file": "model.int8.onnx"})
    update = {
        "models": {**manifest.models, "int8": int8},
        "default": "int8",
        "files": {**manifest.files, "model.int8.onnx": file_entry(bundle / "model.int8.onnx")},
    }
    (bundle / MANIFEST).write_text(manifest.model_copy(update=update).model_dump_json())
    return bundle


@pytest.fixture
def bundle(make_bundle: MakeBundle) -> Path:
    return add_int8(add_cascade(make_bundle()))


def files(directory: Path) -> set[str]:
    return {str(file.relative_to(directory)) for file in directory.rglob("*") if file.is_file()}


def test_the_default_precision_alone_is_kept_and_answers_the_same(bundle: Path, tmp_path: Path) -> None:
    packed = pack(Bundle(bundle), tmp_path / "out", cascade=False)
    assert files(tmp_path / "out") == {MANIFEST, "tokenizer.json", "golden.json", "model.int8.onnx"}
    texts = ["good", "a bad film"]
    assert BundleSession(packed).predict(texts).tolist() == BundleSession(Bundle(bundle)).predict(texts).tolist()
    assert packed.manifest.cascade is None
    assert packed.manifest.provenance["packed_from"] == Bundle(bundle).sha256 != packed.sha256


def test_the_first_chosen_precision_is_the_default_and_the_teacher_stays_for_a_cascade(
    bundle: Path, tmp_path: Path
) -> None:
    packed = pack(Bundle(bundle), tmp_path / "out", precisions=["fp32"])
    assert files(tmp_path / "out") == {MANIFEST, "tokenizer.json", "golden.json", "model.fp32.onnx", TEACHER}
    assert packed.model()[0] == "fp32"
    assert packed.manifest.cascade is not None
    both = pack(Bundle(bundle), tmp_path / "out", precisions=["fp32", "int8"], cascade=False)  # replaces the first
    assert (both.model()[0], set(both.manifest.models)) == ("fp32", {"fp32", "int8"})
    assert TEACHER not in files(tmp_path / "out")


def test_a_link_is_replaced_and_what_it_leads_to_stays(bundle: Path, make_bundle: MakeBundle, tmp_path: Path) -> None:
    other = make_bundle("other")
    (tmp_path / "out").symlink_to(other)
    packed = pack(Bundle(bundle), tmp_path / "out")
    assert not (tmp_path / "out").is_symlink()
    assert packed.manifest.provenance["packed_from"] == Bundle(bundle).sha256
    assert Bundle(other).manifest.name == "other"


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("rename", [1, 2])
def test_a_kill_while_a_bundle_is_replaced_loses_none(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rename: int, linked: bool
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    first = pack(Bundle(bundle), tmp_path / "first" if linked else folder / "out", precisions=["fp32"])
    if linked:
        (folder / "out").symlink_to(tmp_path / "first")
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", killed_at(rename, os.rename))
        with pytest.raises(KilledError):
            pack(Bundle(bundle), folder / "out")
    damaged = Bundle(bundle)
    (bundle / "model.int8.onnx").rename(tmp_path / "away")
    with pytest.raises(UserError, match="cannot be written"):
        pack(damaged, folder / "out")
    assert Bundle(folder / "out").sha256 == first.sha256  # the call restored it, though it could not replace it
    (tmp_path / "away").rename(bundle / "model.int8.onnx")
    assert pack(Bundle(bundle), folder / "out").model()[0] == "int8"
    assert list(folder.iterdir()) == [folder / "out"]
    assert not linked or Bundle(tmp_path / "first").sha256 == first.sha256


def test_what_a_kill_leaves_of_the_old_bundle_is_removed_by_the_next_call(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    pack(Bundle(bundle), folder / "out", precisions=["fp32"])
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed_at(3, shutil.rmtree))  # the first two calls look for leftovers
        with pytest.raises(KilledError):
            pack(Bundle(bundle), folder / "out")
    assert Bundle(folder / "out").model()[0] == "int8"
    assert len(list(folder.iterdir())) == 2
    pack(Bundle(bundle), folder / "out", precisions=["fp32"])
    assert list(folder.iterdir()) == [folder / "out"]


def test_a_bundle_that_cannot_be_replaced_stays(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = pack(Bundle(bundle), tmp_path / "out", precisions=["fp32"])

    def refuse() -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", at_call(2, os.rename, refuse))
        with pytest.raises(UserError, match="cannot be written"):
            pack(Bundle(bundle), tmp_path / "out")
    assert Bundle(tmp_path / "out").sha256 == first.sha256


def test_each_domain_keeps_its_models(bundle: Path, tmp_path: Path) -> None:
    manifest = Bundle(bundle).manifest
    of_domain = DomainEntry(default="int8", models=manifest.models, dev_accuracy_of_all=1.0, provenance={})
    update = {"domains": {"a": of_domain, "b": of_domain}, "default_domain": "b", "cascade": None}
    (bundle / MANIFEST).write_text(manifest.model_copy(update=update).model_dump_json())
    packed = pack(Bundle(bundle), tmp_path / "out").manifest
    assert packed.domains is not None
    assert [set(one.models) for one in packed.domains.values()] == [{"int8"}, {"int8"}]
    assert "model.fp32.onnx" not in files(tmp_path / "out")


def test_what_cannot_be_packed_is_said_in_one_line_and_nothing_is_lost(
    bundle: Path, make_bundle: MakeBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Bundle(bundle)
    with pytest.raises(UserError, match="no precision 'int4'; the bundle has fp32, int8"):
        pack(whole, tmp_path / "out", precisions=["int4"])
    with pytest.raises(UserError, match="no cascade to keep"):
        pack(Bundle(make_bundle("plain")), tmp_path / "out", cascade=True)
    with pytest.raises(UserError, match="is the bundle itself"):
        pack(whole, bundle)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="holds no bundle"):
        pack(whole, tmp_path / "mine")
    monkeypatch.chdir(tmp_path / "mine")
    with pytest.raises(UserError, match="holds no bundle"):
        pack(whole, Path())
    shutil.copyfile(bundle / MANIFEST, tmp_path / "file")
    with pytest.raises(UserError, match="cannot be written"):
        pack(whole, tmp_path / "file" / "out")
    assert Bundle(bundle).sha256 == whole.sha256
    assert files(tmp_path / "mine") == {"letter.txt"}
    assert json.loads((bundle / MANIFEST).read_text())["models"].keys() == {"fp32", "int8"}
