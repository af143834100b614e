"""The linear model that teacher and student are compared with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compress.baselines.linear import make_linear, read_linear
from compress.data.corpus import Corpus, load_corpus
from compress.pipeline.run import compress, warn_if_below_linear
from compress.pipeline.workspace import Workspace
from compress.recipe import load_recipe
from compress.recipe.sections import DataOptions
from compress.runtime.errors import UserError
from export.build import build_bundle
from export.bundle import Bundle
from tests.tiny_task import SEARCH, sentences, tiny_recipe, write_tsv


def corpus(folder: Path, rows: list[tuple[str, ...]], header: tuple[str, ...], **options: str) -> Corpus:
    train = write_tsv(folder / "train.tsv", rows, header)
    dev = write_tsv(folder / "dev.tsv", rows[: len(rows) // 4], header)
    return load_corpus(DataOptions.model_validate({"train": train, "dev": dev, **options}))


def test_words_that_decide_are_learned(tmp_path: Path) -> None:
    make_linear(corpus(tmp_path, sentences(200), ("text", "label")), tmp_path)
    found = read_linear(tmp_path)
    assert found["accuracy"] == {"dev": 1.0}
    assert found["features"] > 100
    assert set(found) == {"accuracy", "strength", "features", "seconds"}


def test_texts_without_words_and_many_classes_are_learned_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signs = ["🙂", "🙁", "?!", "…"]
    for rows in ([(sign, f"class {i}") for i, sign in enumerate(signs)], [(sign * 9, sign) for sign in signs] * 9):
        make_linear(corpus(tmp_path, rows, ("text", "label")), tmp_path)
        assert read_linear(tmp_path)["accuracy"]["dev"] == 1.0
    rows = [(f"word{i} word{i + 1} common {j}", f"class {i}") for i in range(0, 200, 4) for j in range(2)]
    monkeypatch.setattr("compress.baselines.linear.MOST_WEIGHTS", 20_000)
    make_linear(corpus(tmp_path, rows, ("text", "label")), tmp_path)
    assert read_linear(tmp_path)["accuracy"]["dev"] > 0.95
    assert read_linear(tmp_path)["features"] == 400


def test_of_pairs_it_sees_what_the_texts_share(tmp_path: Path) -> None:
    """Same words or not: no word tells, only whether both texts have it."""
    words = ["apple", "stone", "river", "cloud", "horse", "music"]
    rows = [
        (f"{a} number", f"{b} number", "same" if a == b else "other")
        for _ in range(6)
        for i, a in enumerate(words)
        for b in (a, words[(i + 1) % 6])
    ]
    header = ("text", "second", "label")
    make_linear(corpus(tmp_path, rows, header, text_b="second"), tmp_path)
    assert read_linear(tmp_path)["accuracy"]["dev"] >= 0.95


def test_a_student_below_the_linear_model_gets_no_bundle(tmp_path: Path) -> None:
    """The words of these texts tell their labels; a student that has hardly trained does not know them yet."""
    recipe = tiny_recipe(tmp_path, rows=200)
    text = recipe.read_text(encoding="utf-8").replace(SEARCH, "")
    recipe.write_text(text, encoding="utf-8")
    settings = [
        'student.architecture="residual"',
        "teacher.epochs=1",
        "compress.epochs=1",
        "compress.learning_rate=1e-5",
    ]
    workspace = Workspace(tmp_path / "artifacts")
    refusing = load_recipe(recipe, [*settings, "export.below_linear=refuse"])
    compress(refusing, workspace)
    with pytest.raises(
        UserError, match=r"a linear model on n-grams 100\.00%: it is not worth its BERT, and no bundle is made"
    ):
        build_bundle(refusing, workspace, "cpu")
    assert not (workspace.root / "bundle").exists()
    bundle = build_bundle(load_recipe(recipe, settings), workspace, "cpu")  # which warns only
    assert bundle.manifest.provenance["linear"]["accuracy"] == {"dev": 1.0}
    lacking = load_recipe(recipe, [*settings, "budget.max_bytes=100", "budget.target_latency_ms=1e-4", "bench.texts=5"])
    with pytest.raises(
        UserError,
        match=r"no bundle is made: it takes .* ms, and budget\.target_latency_ms is 0\.0001; its file has [\d,]+ bytes",
    ):
        build_bundle(lacking, workspace, "cpu")
    assert Bundle(workspace.root / "bundle").manifest == bundle.manifest  # the earlier one
    assert build_bundle(lacking, workspace, "cpu", refuse=False).manifest.models["int8"].passed is not None
    assert build_bundle(
        load_recipe(recipe, [*settings, "budget.max_bytes=1_000_000"]), workspace, "cpu"
    ).manifest.models


def test_for_the_student_of_a_domain_both_are_compared_on_its_texts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The teacher's own accuracy is that of all domains."""
    scores = {"accuracy": {"dev": 0.7}, "domain_accuracy": {"dev": {"films": 0.9, "games": 0.5}}}
    for stage, file, content in (("teacher", "card", scores), ("linear", "linear", {"accuracy": {"dev": 0.8}})):
        (tmp_path / stage).mkdir()
        (tmp_path / stage / f"{file}.json").write_text(json.dumps(content), encoding="utf-8")
    warn_if_below_linear(tmp_path, "films")
    assert capsys.readouterr().err == ""
    warn_if_below_linear(tmp_path, "games")
    assert "the teacher has 50.00% on dev, a linear model on n-grams 80.00%" in capsys.readouterr().err
    warn_if_below_linear(tmp_path, None)
    assert "the teacher has 70.00% on dev" in capsys.readouterr().err


def test_a_teacher_below_the_linear_model_is_said_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = load_recipe(tiny_recipe(tmp_path, rows=200), ["teacher.epochs=1", "teacher.learning_rate=1e-6"])
    compress(recipe, Workspace(tmp_path / "artifacts"), until="linear")
    assert "a linear model on n-grams 100.00%: train it longer (teacher.steps)" in " ".join(
        capsys.readouterr().err.split()
    )
