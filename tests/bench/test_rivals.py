"""The rivals on a small task: each is the classifier that its name says, made once, and made again for other texts."""

import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.baseline import BaselineOptions
from bench.cells import Labelled, _accuracy
from bench.engines import Engine
from bench.inputs import Texts
from bench.rivals import Rivals
from bench.roster import Roster
from bench.task import Task
from compress.baselines.linear import make_linear, read_linear
from compress.data.corpus import Corpus
from compress.data.domains import load_student_corpus
from compress.pipeline.run import compress
from compress.pipeline.workspace import Workspace
from compress.recipe import Recipe, load_recipe
from compress.runtime.errors import UserError
from tests.conftest import make_tiny_bundle
from tests.tiny_task import sentences, tiny_recipe, write_tsv

CHEAP = ["majority", "linear", "fasttext", "static", "frozen-onnx", "frozen-onnx-int8"]


def roster(file: Path, settings: tuple[str, ...] = ()) -> tuple[Roster, Recipe, Corpus, Workspace]:
    """A task with a bundle; its teacher is an untrained BERT, unless one was made."""
    recipe = load_recipe(file, list(settings))
    corpus, workspace = load_student_corpus(recipe), Workspace(file.parent / "artifacts" / "tiny")
    if not workspace.root.exists():
        make_tiny_bundle(workspace.root / "bundle")
        shutil.copytree(file.parent / "bert", workspace.root / "teacher")
    rivals = Rivals(recipe, corpus, workspace, (file, list(settings)))
    task = Task(workspace.root / "teacher", workspace.root / "bundle", corpus, 32, "cpu", BaselineOptions(), rivals)
    return Roster(task), recipe, corpus, workspace


def accuracy(engine: Engine, corpus: Corpus) -> float:
    """On the reported split, as a comparison measures it."""
    split = corpus.splits[corpus.report_split]
    model = engine.open(threads=1, device="cpu")
    return _accuracy(model, Labelled(texts=Texts(split.texts, split.texts_b), labels=split.labels), 32).percent / 100


def test_rivals_are_made_once_and_answer_as_their_name_says(tmp_path, capsys):
    made, _, corpus, workspace = roster(tiny_recipe(tmp_path))
    assert made.choose("cheap", [], []) == [n for n in made.names() if n != "layers-1"]
    assert made.choose("all", [], ["bert-*", "teacher-*", "student-*"]) == [*CHEAP, "layers-1"]
    assert made.choose("linear,frozen-*", [], ["bert-*", "teacher-*", "student-*"]) == ["linear", *CHEAP[4:]]
    assert made.choose("none", [], ["bert-*"]) == ["teacher-torch", "student-fp32"]
    skipped: dict[str, str] = {}
    engines = {engine.name: engine for engine in made.engines(CHEAP, skipped)}
    assert skipped == {}
    found = {name: accuracy(engine, corpus) for name, engine in engines.items()}
    make_linear(corpus, tmp_path)
    assert found["linear"] == read_linear(tmp_path)["accuracy"]["dev"] == 1.0  # the model of the run itself
    assert found["majority"] == 0.5
    assert found["fasttext"] == 1.0
    assert found["static"] == 1.0  # its embeddings are fine-tuned
    assert found["frozen-onnx"] > 0.8  # a random encoder mixes the words, and keeps them apart
    assert abs(found["frozen-onnx-int8"] - found["frozen-onnx"]) < 0.1
    texts = Texts(corpus.splits["dev"].texts[:5])
    for name, engine in engines.items():
        model = engine.open(threads=1, device="cpu")
        alone = np.concatenate([model.logits(model.encode(texts.take([i]))) for i in range(5)])
        together = model.logits(model.encode(texts))
        np.testing.assert_allclose(together, alone, atol=0.05 if "int8" in name else 1e-5)
    capsys.readouterr()
    again, *_ = roster(tmp_path / "tiny.toml")
    assert {engine.name: engine for engine in again.engines(CHEAP, {})} == engines
    assert "▸" not in capsys.readouterr().err
    write_tsv(tmp_path / "train.tsv", sentences(100, seed=5))
    anew, *_ = roster(tmp_path / "tiny.toml")
    anew.engines(["linear", "fasttext", "static"], {})
    assert capsys.readouterr().err.count("▸") == 3
    assert not list(workspace.root.glob("rivals/.*.tmp"))


def test_a_rival_that_cannot_be_made_is_left_out_with_the_reason(tmp_path):
    file = tiny_recipe(tmp_path)
    made, _, _, workspace = roster(file, ("teacher.fine_tuned=true",))
    skipped: dict[str, str] = {}
    assert [engine.name for engine in made.engines(["majority", "frozen-onnx", "layers-1"], skipped)] == ["majority"]
    assert "fine-tuned already" in skipped["frozen-onnx"]
    assert "not this recipe's teacher; run `pocketbert compress` first" in skipped["layers-1"]
    (workspace.root / "teacher" / "model.safetensors").write_bytes(b"broken")
    assert made.engines(["static"], skipped) == []
    assert "SafetensorError" in skipped["static"]  # not foreseen, and the others are measured all the same


def test_a_bert_that_is_not_there_is_refused_before_a_rival_is_made(tmp_path):
    made, _, _, workspace = roster(tiny_recipe(tmp_path))
    options = BaselineOptions(model="./missing")
    wrong = Roster(replace(made.task, baseline_options=options))
    with pytest.raises(UserError, match=r"--bert-base ./missing: no such directory"):
        wrong.engines(["bert-torch", "linear"], {})
    assert not (workspace.root / "rivals").exists()


def test_pairs_have_rivals_too(tmp_path):
    file = tiny_recipe(tmp_path)
    for name, count, seed in (("train", 300, 0), ("dev", 60, 1)):
        rows = sentences(count, seed)
        pairs = [(a, b, f"{x} {y}") for (a, x), (b, y) in itertools.pairwise(rows)]
        write_tsv(tmp_path / f"{name}.tsv", pairs, ("text", "second", "label"))
    file.write_text(file.read_text().replace("max_length = 32", 'max_length = 32\ntext_b = "second"'))
    made, _, corpus, _ = roster(file)
    split = corpus.splits["dev"]
    texts = Texts(split.texts[:4], split.texts_b[:4]), Texts(split.texts_b[:4], split.texts[:4])
    for name in ("linear", "fasttext", "static", "frozen-onnx-int8"):
        model = made.engine(name).open(threads=1, device="cpu")
        first, swapped = (model.logits(model.encode(pairs)) for pairs in texts)
        assert first.shape == (4, 2)
        # The features of the linear model, |a − b| and a · b, are the same both ways. The other one has one text behind the other, and
        # learns nothing where the labels are of the order.
        assert np.allclose(first, swapped, atol=1e-2) is (name in ("linear", "fasttext"))


@pytest.mark.slow
def test_layers_of_the_teacher_learn_from_it_and_are_made_once(tmp_path, capsys):
    file = tiny_recipe(tmp_path)
    recipe = load_recipe(file)
    workspace = Workspace(tmp_path / "artifacts" / "tiny")
    compress(recipe, workspace, until="linear")
    make_tiny_bundle(workspace.root / "bundle")
    made, _, corpus, _ = roster(file)
    engine = made.engine("layers-1")
    assert (engine.family, engine.precision, engine.scored) == ("rival", "int8", True)
    assert accuracy(engine, corpus) > 0.9
    card = json.loads((engine.path.parent / "student" / "card.json").read_text())
    assert card["recipe"]["student"]["layers"] == 1
    assert card["recipe"]["augmentation"]["method"] == "none"
    capsys.readouterr()
    assert roster(file)[0].engine("layers-1") == engine
    assert "▸" not in capsys.readouterr().err
