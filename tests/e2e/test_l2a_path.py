"""L2A from two domains' texts to a student, with each kind of student; its ablations share what they can."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.tables.runner import TableOptions, plan, run_table
from bench.tables.table import load_table
from compress.__main__ import app
from compress.data.corpus import load_corpus
from compress.data.teacher_outputs import TeacherOutputs
from compress.pipeline.run import compress
from compress.pipeline.stages import stage_keys
from compress.pipeline.workspace import Workspace
from compress.recipe import Recipe, load_recipe
from compress.runtime.errors import UserError
from tests.tiny_task import sentences, tiny_recipe, write_tsv

SETTINGS = ["data.target.train_limit=60", "teacher.epochs=3", "compress.preset=l2a", "compress.epochs=2"]
SMALL = ["augmentation.copies=1", "augmentation.epochs=1", "augmentation.selector.pool=20", "compress.batch_size=16"]
STUDENTS = {
    "transformer": ["student.layers=1", "compress.learning_rate=1e-3"],
    "bilstm": ["student.width=32", "student.hidden=16"],
    "cnn": ["student.width=16", "student.architecture=residual", "student.max_cells=1", "transfer.joined=40"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = tiny_recipe(tmp_path_factory.mktemp("l2a"))
    text = recipe.read_text()
    domains = text[: text.index("[student]")].replace('[data]\nsource = "files"', "[data.target]")
    labels = {"positive": "fine", "negative": "negative"}
    write_tsv(recipe.parent / "source.tsv", [(text, labels[label]) for text, label in sentences(80, seed=7)])
    recipe.write_text(domains + '[data.source]\ntrain = "source.tsv"\nrelabel = {fine = "positive"}\n')
    return recipe.parent


def make(folder: Path, name: str, *settings: str) -> tuple[Recipe, Path]:
    recipe = load_recipe(folder / "tiny.toml", [*SETTINGS, *SMALL, *settings])
    workspace = Workspace(folder / "artifacts" / name, store=folder / "store")
    compress(recipe, workspace)
    return recipe, workspace.root


@pytest.mark.parametrize("kind", list(STUDENTS))
def test_every_kind_of_student_learns_to_augment(folder: Path, kind: str) -> None:
    recipe, root = make(folder, kind, f"student.kind={kind}", *STUDENTS[kind])
    lines = [json.loads(line) for line in (root / "augmented" / "texts.jsonl").read_text().splitlines()]
    assert sum(line["source"] for line in lines) == 30  # half of the sixty
    assert all(line["log_likelihood"] < 0 for line in lines)
    corpus = load_corpus(recipe.target, recipe.source)
    assert corpus.source is not None
    changed = 0
    for line in lines:
        original = (corpus.source if line["source"] else corpus.splits["train"]).texts[line["row"]]
        assert len(line["text"].split()) == len(original.split())
        changed += line["text"] != original
    assert changed > 40
    log = json.loads((root / "student" / "selector.json").read_text())
    assert len(log) == 6  # two epochs of three episodes
    assert (root / "student" / "selector.svg").is_file()
    card = json.loads((root / "student" / "card.json").read_text())
    assert card["recipe"]["data"]["source"]["relabel"] == {"fine": "positive"}
    assert [found["of"] for found in card["contamination"]] == ["training", "source"]


def test_ablations_of_the_selector_share_the_generated_texts(folder: Path) -> None:
    settings = ["student.kind=transformer", *STUDENTS["transformer"]]
    base, *others = (
        stage_keys(load_recipe(folder / "tiny.toml", [*SETTINGS, *SMALL, *settings, *more]))
        for more in (
            [],
            ["augmentation.selector.keep=all"],
            ["augmentation.source_share=0.0"],
            ['data.source.use=["teacher","language_model"]'],
        )
    )
    same = [{name for name in base if keys[name] == base[name]} for keys in others]
    assert same[0] == set(base) - {"student"}
    assert {"teacher", "language_model"} <= same[1]
    assert "augmented" not in same[1]
    assert {"teacher", "language_model", "augmented"} <= same[2]
    assert "teacher_outputs" not in same[2]


def test_source_texts_can_be_distilled_as_they_are(folder: Path) -> None:
    plain = [
        "augmentation.method=none",
        "student.kind=transformer",
        *STUDENTS["transformer"],
        "objective.method=logits",
    ]
    recipe = load_recipe(
        folder / "tiny.toml",
        [*SETTINGS, *plain, 'data.source.use=["student"]', "compress.epochs=1", "teacher.epochs=1"],
    )
    root = folder / "artifacts" / "plain"
    compress(recipe, Workspace(root))

    corpus = load_corpus(recipe.target, recipe.source)
    assert corpus.source is not None
    assert len(TeacherOutputs.load(root / "teacher_outputs").targets.logits) == 60 + len(corpus.source)


def test_the_selector_decides_on_real_texts_too(folder: Path) -> None:
    write_tsv(folder / "more.tsv", sentences(40, seed=11))
    real = ['data.source.use=["teacher","student"]', "data.target.distil_unlabelled=true"]
    settings = ["student.kind=bilstm", *STUDENTS["bilstm"], f"data.target.unlabelled={folder / 'more.tsv'}"]
    recipe, root = make(folder, "real", *settings, *real)
    corpus = load_corpus(recipe.target, recipe.source)
    assert corpus.source is not None
    assert corpus.unlabelled is not None
    texts = 60 + len(corpus.source) + len(corpus.unlabelled)  # a sample of each training text, and the real ones
    assert len(TeacherOutputs.load(root / "teacher_outputs").targets.logits) == 60 + texts
    log = json.loads((root / "student" / "selector.json").read_text())
    assert len(log) == 2 * (texts // 20)
    for kind, names in (("by kind", ("sample", "real")), ("by domain", ("target", "source"))):
        assert {name for entry in log for name, rate in entry[kind].items() if rate is not None} == set(names)


TABLE = """
title = "Tiny"
precisions = ["fp32"]
[base]
teacher = {{model = "{folder}/bert", epochs = 1, learning_rate = 3e-3}}
compress = {{preset = "logits", epochs = 1, batch_size = 16, learning_rate = 1e-3}}
student = {{layers = 1}}
data = {{max_length = 32, train_limit = 40, source = {{limit = 30, relabel = {{fine = "positive"}}}}}}
[data.tiny]
train = "train.tsv"
dev = "dev.tsv"
source = "source.tsv"
[method.teacher]
stop = "teacher"
[method.l2a]
recipe = {{augmentation = {{method = "l2a", copies = 1, epochs = 1, selector = {{pool = 20}}}}}}
[method.source-texts]
recipe = {{augmentation = {{method = "none"}}, data = {{source = {{use = ["teacher", "student"]}}}}}}
"""


def test_a_table_of_it_is_made_in_one_go(folder: Path) -> None:
    path = folder / "table.toml"
    path.write_text(TABLE.format(folder=folder))
    table = load_table(str(path))
    options = TableOptions(folder, folder / "results", folder / "artifacts", latency=False)
    assert run_table(table, options) == []
    assert [planned.state for planned in plan(table, options)] == ["finished"] * 3


def test_the_command_shows_what_was_made_of_what(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--recipe", str(folder / "tiny.toml"), "--artifacts", str(folder / "shown"), "--show", "3"]
    settings = [
        part for setting in [*SETTINGS, *SMALL, "teacher.epochs=1", "student.layers=2"] for part in ("--set", setting)
    ]
    app(["augment", *arguments, *settings], standalone_mode=False)
    shown = capsys.readouterr().out
    with pytest.raises(UserError, match="--recipe: give one"):
        app(["augment", str(folder / "other.toml"), *arguments], standalone_mode=False)
    assert shown.count("  → the ") == 3
    assert shown.count("nats a word, teacher: ") == 3
