"""A small table of Meta-KD: its columns are domains and share teachers, and each group has an average."""

import json
import statistics
from pathlib import Path

import pytest

from bench.tables.render import render
from bench.tables.results import Results
from bench.tables.runner import TableOptions, plan, run_table
from bench.tables.table import load_table
from compress.runtime.errors import UserError
from tests.tiny_task import domain_sentences, tiny_teacher, write_tsv

COLUMN = """
[data.{name}]
train = "train.tsv"
dev = "dev.tsv"
group = "mini"
recipe = {{data = {{domain = "domain", max_length = 32}}, domains = {{student = "{name}"}}}}
"""
TABLE = """
title = "Mini"
precisions = ["fp32"]
[base]
teacher = {{model = "{folder}/bert", epochs = 2, learning_rate = 2e-3, batch_size = 16}}
student = {{layers = 2}}
compress = {{preset = "metakd", epochs = 1, batch_size = 16}}
objective = {{intermediate_epochs = 1}}
export = {{calibration_texts = 16}}
{columns}
[data.unseen]
train = "train.tsv"
dev = "dev.tsv"
recipe = {{data = {{domain = "domain", max_length = 32}}, domains = {{student = "films", leave_out = ["films"]}}}}
[method.teacher-single]
stop = "teacher"
data = ["films", "games"]
recipe = {{teacher = {{method = "finetune"}}, domains = {{teacher = "own"}}}}
[method.meta-teacher]
stop = "teacher"
[method.metakd]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    header = ("text", "label", "domain")
    write_tsv(tmp_path / "train.tsv", domain_sentences(90), header)
    write_tsv(tmp_path / "dev.tsv", domain_sentences(60, seed=1), header)
    tiny_teacher(tmp_path / "bert")
    columns = "".join(COLUMN.format(name=name) for name in ("films", "games"))
    (tmp_path / "mini.toml").write_text(TABLE.format(folder=tmp_path, columns=columns))
    return tmp_path


def test_columns_are_domains_and_share_the_meta_teacher(folder: Path) -> None:
    table = load_table(str(folder / "mini.toml"))
    options = TableOptions(data=folder, results=folder / "results", artifacts=folder / "artifacts", latency=False)
    assert run_table(table, options) == []
    assert all(item.state == "finished" for item in plan(table, options))
    runs = folder / "artifacts" / "tables" / "mini"
    shared = {(runs / f"{name}-0" / "metakd" / "teacher").resolve() for name in ("films", "games")}
    assert len(shared) == 1
    card = json.loads((shared.pop() / "card.json").read_text())
    results = Results(table, options.results)
    found = {(e.method, e.data): e.value for e in results.read().values()}
    for name in ("films", "games"):
        assert found["meta-teacher", name] == card["domain_accuracy"]["dev"][name]
        student = json.loads((runs / f"{name}-0" / "metakd" / "student" / "card.json").read_text())
        assert student["sizes"]["dev"] == 20
    unseen = json.loads((runs / "unseen-0" / "metakd" / "teacher" / "card.json").read_text())
    assert unseen["domains"] == ["games", "goods"]
    header, rows = render(results).rows()
    place = header.index("mini average (2)")  # without the column that is in no group
    mean = statistics.mean([found["metakd", "films"], found["metakd", "games"]])
    assert rows[2][place] == f"{100 * mean:.1f}"


def test_the_table_of_the_project_can_be_planned() -> None:
    """Every run of the table has a recipe. The data are not in the repository."""
    table = load_table("metakd")
    rows = {(run.method, run.data) for run in table.runs()}
    assert len(rows) == 10 * 4 + 7 * 5 + 5  # amazon, mnli, and fiction unseen, where no teacher is of fiction alone
    with pytest.raises(UserError, match="name the folder"):
        table.recipe(next(table.runs()), None)


def test_a_run_is_one_student(folder: Path) -> None:
    text = (folder / "mini.toml").read_text()
    (folder / "each.toml").write_text(text.replace('student = "games"', 'students = "per-domain"'))
    table = load_table(str(folder / "each.toml"))
    with pytest.raises(UserError, match="make a column of each domain"):
        plan(table, TableOptions(data=folder, results=folder / "results"))
