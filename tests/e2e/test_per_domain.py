"""One student for each domain, from the command line's functions to one bundle that answers by domain."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from compress.__main__ import app
from compress.data.corpus import load_corpus
from compress.pipeline.per_domain import compress_per_domain, domain_workspace
from compress.pipeline.workspace import Workspace
from compress.recipe import load_recipe
from compress.runtime.errors import UserError
from export.evaluation import check_accuracy, read_labelled
from export.per_domain import build_domain_bundle
from export.session import BundleSession
from export.verify import verify_bundle
from tests.serve.conftest import serve
from tests.tiny_task import DOMAIN_RECIPE, domain_sentences, tiny_teacher, write_tsv

RECIPE = f"""{DOMAIN_RECIPE}
[meta]
corruption = 0.1
[domains]
students = "per-domain"
[student]
layers = 1
[objective]
intermediate_epochs = 1
[compress]
preset = "metakd"
epochs = 1
batch_size = 16
learning_rate = 1e-3
[cascade]
max_share = 0.5
[export]
below_linear = "warn"  # a linear model is perfect here
calibration_texts = 16
"""


def test_each_domain_has_its_student_and_the_bundle_routes_to_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    header = ("text", "label", "domain")
    # A domain's name may be anything.
    train, dev = (
        [(text, label, {"films": "films/../tv"}.get(domain, domain)) for text, label, domain in rows]
        for rows in (domain_sentences(240), domain_sentences(60, seed=1))
    )
    write_tsv(tmp_path / "train.tsv", train, header)
    write_tsv(tmp_path / "dev.tsv", dev, header)
    tiny_teacher(tmp_path / "bert")
    (tmp_path / "tiny.toml").write_text(RECIPE)
    recipe = load_recipe(tmp_path / "tiny.toml")
    workspace = Workspace(tmp_path / "artifacts" / "tiny")
    with pytest.raises(UserError, match=r"no finished student .* the same --set"):
        build_domain_bundle(recipe, workspace, "cpu")

    students = compress_per_domain(recipe, workspace)
    assert list(students) == ["films/../tv", "games", "goods"]
    assert len({student.resolve() for student in students.values()}) == 3
    assert all(student.resolve().is_relative_to(tmp_path / "artifacts" / "tiny") for student in students.values())
    teachers = {(student.parent / "teacher").resolve() for student in students.values()}
    assert teachers == {(workspace.root / "teacher").resolve()}  # one for all of them

    bundle = build_domain_bundle(recipe, workspace, "cpu")
    manifest = bundle.manifest
    assert manifest.domains is not None
    assert list(manifest.domains) == list(students)
    best = max(manifest.domains.values(), key=lambda entry: entry.dev_accuracy_of_all)
    assert manifest.domains[manifest.default_domain or ""] == best
    assert manifest.models == best.models
    corpus = load_corpus(recipe.target).splits["dev"]
    for domain, entry in manifest.domains.items():
        rows = [i for i, other in enumerate(corpus.domains or []) if other == domain]
        session = BundleSession(bundle, domain=domain)
        right = session.predict([corpus.texts[i] for i in rows]).argmax(axis=1) == np.asarray(corpus.labels)[rows]
        assert entry.models[session.precision].dev_accuracy == pytest.approx(right.mean(), abs=1e-4)
        assert entry.provenance["recipe"]["domains"]["student"] == domain
    checked = [line for line in verify_bundle(bundle) if "golden examples" in line]
    assert len(checked) == 9  # two models for each domain, and what the teacher says to its texts
    [teacher] = bundle.directory.rglob("teacher.*")  # all domains have the same
    for domain, entry in manifest.domains.items():
        assert entry.cascade is not None
        assert entry.cascade.teacher.file == str(teacher.relative_to(bundle.directory))
        assert entry.models["int8"].dev_answers is not None
        assert sum(line.startswith(f"{domain}, teacher in int8: 8 golden") for line in checked) == 1
    measured = list(check_accuracy(bundle, read_labelled(tmp_path / "tiny.toml", manifest), "cpu"))
    assert [line.split(": ")[0] for line in measured[:2]] == ["films/../tv, fp32", "films/../tv, int8"]
    assert len(measured) == 6
    client = serve(bundle.directory)
    shown = client.get("/info").json()["domain_cascades"]
    assert {domain: one["threshold"] for domain, one in shown.items()} == {
        domain: entry.cascade.routes[entry.default].chosen.threshold
        for domain, entry in manifest.domains.items()
        if entry.cascade is not None
    }
    assert client.classify(text="a good film", domain="films/../tv").status_code == 200
    assert client.classify(text="a good film", domain="films").status_code == 422

    capsys.readouterr()
    lost = domain_workspace(workspace, "games").root / "student" / "config.json"
    lost.unlink()
    compress_per_domain(recipe, workspace)  # what is missing is made again, and nothing else
    shown = capsys.readouterr()
    made = [line for line in (shown.out + shown.err).splitlines() if line.startswith("▸")]
    assert made == ["▸ student"]
    build_domain_bundle(recipe, workspace, "cpu")
    assert json.loads((bundle.directory / "manifest.json").read_text())["domains"].keys() == students.keys()


def test_a_domains_samples_are_shown_beside_its_own_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    header = ("text", "label", "domain")
    train = domain_sentences(240)
    write_tsv(tmp_path / "train.tsv", train, header)
    write_tsv(tmp_path / "dev.tsv", domain_sentences(60, seed=1), header)
    tiny_teacher(tmp_path / "bert")
    (tmp_path / "tiny.toml").write_text(RECIPE)
    command = ["augment", str(tmp_path / "tiny.toml"), "--artifacts", str(tmp_path / "artifacts"), "--show", "8"]
    settings = ["augmentation.method=eda", "teacher.epochs=1"]
    command += [part for setting in settings for part in ("--set", setting)]
    with pytest.raises(UserError, match=r"domains\.students: .* domains\.student"):
        app(command, standalone_mode=False)
    chosen = ['domains.students="shared"', 'domains.student="games"']
    app([*command, *(part for setting in chosen for part in ("--set", setting))], standalone_mode=False)
    shown = capsys.readouterr().out.splitlines()
    originals = [before for before, after in itertools.pairwise(shown) if after.startswith("  → ")]
    assert len(originals) == 8
    assert set(originals) <= {text for text, _, domain in train if domain == "games"}
