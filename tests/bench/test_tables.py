"""`python -m bench table` from end to end, on a small task."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import typer
from tokenizers import Tokenizer
from transformers import AutoModelForSequenceClassification

from bench.__main__ import app
from bench.tables import runner
from compress.runtime.errors import UserError
from export.bundle import Bundle
from export.session import BundleSession
from tests.compress.test_teacher_heads import mean_classifier
from tests.tiny_task import tiny_recipe, tiny_teacher

MINI = """
title = "Mini"
[base]
teacher = {{model = "{folder}/bert", epochs = 2, learning_rate = 3e-3}}
data = {{max_length = 32}}
export = {{calibration_texts = 64}}
[data.a]
train = "train.tsv"
dev = "dev.tsv"
recipe = {{data = {{train_limit = 100, labels = ["negative", "positive"]}}}}
[method.teacher]
stop = "teacher"
[method.adabert.recipe]
compress = {{preset = "adabert", epochs = 2, batch_size = 16, average = 0.9}}
search = {{epochs = 1, trials = 3, trial_steps = 5}}
student = {{width = 16}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The task's files and `mini.toml`."""
    folder = tmp_path_factory.mktemp("mini")
    tiny_recipe(folder)
    (folder / "mini.toml").write_text(MINI.format(folder=folder))
    return folder


@pytest.fixture
def bench_table(folder, monkeypatch, capfd):
    """`python -m bench table mini.toml ARGUMENTS` in this process; stdout and stderr in one string."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str, table: str = "mini.toml") -> str:
        command = ["table", table, "--data", str(folder), *arguments]
        monkeypatch.setattr(sys, "argv", ["bench", *command])
        capfd.readouterr()
        try:
            run.status = app(command, standalone_mode=False) or 0
        except typer.Exit as stop:
            run.status = stop.exit_code
        captured = capfd.readouterr()
        return captured.out + captured.err

    return run


@pytest.fixture
def finished(folder, bench_table) -> Path:
    """The results file, after a first run where there was none."""
    path = folder / "bench/results/mini.json"
    if not path.exists():
        bench_table("--no-latency")
    return path


def read(path: Path) -> dict[tuple[str, str], dict]:
    return {(e["method"], e["metric"]): e for e in json.loads(path.read_text())}


def test_a_table_is_run_kept_and_shown(folder, bench_table, finished):
    entries = read(finished)
    assert list(entries) == [("teacher", "accuracy"), ("adabert", "accuracy"), ("adabert", "int8_accuracy")]
    artifacts = folder / "artifacts/tables/mini/a-0"
    manifest = json.loads((artifacts / "adabert/bundle/manifest.json").read_text())
    card = json.loads((artifacts / "teacher/teacher/card.json").read_text())
    assert entries["teacher", "accuracy"]["value"] == card["accuracy"]["dev"]
    assert entries["adabert", "accuracy"]["value"] == manifest["models"]["fp32"]["dev_accuracy"]
    assert entries["adabert", "int8_accuracy"]["value"] == manifest["models"]["int8"]["dev_accuracy"]
    for entry in entries.values():
        assert entry["table"] == "mini"
        assert entry["split"] == "dev"
        assert entry["seconds"] is not None
        assert entry["latency_ms"] is None
        assert set(entry["versions"]) >= {"python", "torch", "transformers", "pocketbert"}
    student = json.loads((artifacts / "adabert/student/card.json").read_text())
    stages = [
        json.loads((artifacts / f"adabert/.stages/{stage}.json").read_text())
        for stage in ("augmented", "search", "trials", "student")
    ]
    assert entries["adabert", "accuracy"]["seconds"] == pytest.approx(sum(s["seconds"] for s in stages), abs=0.06)
    assert 0.5 < entries["adabert", "accuracy"]["parameters"] / student["parameters"] < 1.5
    # One teacher for all of the column's methods.
    assert len(list((folder / "artifacts/tables/store").glob("teacher-*"))) == 1
    shown = bench_table("--render")
    assert f"{100 * entries['adabert', 'accuracy']['value']:.1f}" in shown
    assert (finished.parent / "mini.svg").exists()


def test_finished_runs_are_not_made_again(bench_table, finished):
    before = finished.read_text()
    output = bench_table("--no-latency")
    assert "2 runs, 2 of them finished" in output
    assert "▸" not in output
    assert finished.read_text() == before
    assert "finished" in bench_table("--list")


def test_a_run_forced_again_gives_its_value_again(folder, bench_table, finished):
    before = read(finished)
    output = bench_table("--no-latency", "--force", "--only", "method=adabert|teacher,data=a,seed=0")
    assert "▸ teacher" in output
    assert "▸ student" in output
    assert "▸ bundle" in output
    assert output.count("the same") == 3
    assert {id_: entry["value"] for id_, entry in read(finished).items()} == {
        id_: entry["value"] for id_, entry in before.items()
    }


def test_a_changed_recipe_is_run_again_and_said_so(folder, bench_table, finished, tmp_path):
    shutil.copytree(finished.parent, tmp_path / "results")
    table = tmp_path / "mini.toml"
    table.write_text(
        MINI.format(folder=folder).replace('preset = "adabert", epochs = 2', 'preset = "adabert", epochs = 1')
    )
    (folder / "mini.toml").rename(folder / "kept.toml")
    shutil.copy(table, folder / "mini.toml")
    try:
        results = ["--results", str(tmp_path / "results"), "--artifacts", str(tmp_path / "artifacts")]
        listed = bench_table("--list", *results)
        assert "changed" in listed
        assert "finished" in listed  # the teacher, which does not depend on it
        output = bench_table("--no-latency", *results)
    finally:
        (folder / "kept.toml").rename(folder / "mini.toml")
    assert "adabert · a · seed 0: its inputs have changed" in output
    assert "was" in output
    old, new = read(finished), read(tmp_path / "results/mini.json")
    assert new["adabert", "accuracy"]["key"] != old["adabert", "accuracy"]["key"]
    assert new["teacher", "accuracy"] == old["teacher", "accuracy"]


def test_latency_is_measured_afterwards_and_only_on_an_idle_machine(
    folder, bench_table, finished, tmp_path, monkeypatch
):
    shutil.copytree(finished.parent, tmp_path / "results")
    results = ["--results", str(tmp_path / "results")]
    monkeypatch.setattr(runner, "busy_share", lambda cpus: 0.9)
    assert "90% of the CPUs are busy" in bench_table(*results)
    assert read(tmp_path / "results/mini.json") == read(finished)
    monkeypatch.setattr(runner, "busy_share", lambda cpus: 0.0)
    assert "▸" not in bench_table(*results)  # from the models that are there
    entries = read(tmp_path / "results/mini.json")
    assert entries["teacher", "accuracy"]["latency_of"].startswith("fp32, ")
    assert entries["adabert", "accuracy"]["latency_of"].startswith("int8, ")
    assert entries["adabert", "accuracy"]["latency_ms"] == entries["adabert", "int8_accuracy"]["latency_ms"] is not None
    assert {id_: entry["value"] for id_, entry in entries.items()} == {
        id_: entry["value"] for id_, entry in read(finished).items()
    }
    # Another time nothing is left to do.
    before = (tmp_path / "results/mini.json").read_text()
    bench_table(*results)
    assert (tmp_path / "results/mini.json").read_text() == before


def test_without_the_model_latency_stays_open_and_it_is_said(bench_table, finished, tmp_path):
    before = finished.read_text()
    output = bench_table("--artifacts", str(tmp_path))
    assert output.count("its model is no longer in") == 2
    assert finished.read_text() == before


def test_runs_that_are_kept_are_compared_with_their_teachers(folder, bench_table, finished, tmp_path):
    teacher = AutoModelForSequenceClassification.from_pretrained(folder / "artifacts/tables/mini/a-0/teacher/teacher")
    tokenizer = Tokenizer.from_file(str(folder / "artifacts/tables/mini/a-0/teacher/teacher/tokenizer.json"))
    bundle = Bundle(folder / "artifacts/tables/mini/a-0/adabert/bundle")
    texts = [line.split("\t")[0] for line in (folder / "dev.tsv").read_text().splitlines()[1:]]
    with torch.no_grad():
        logits = torch.cat([teacher(torch.tensor([tokenizer.encode(text).ids])).logits for text in texts])
    teachers, wanted = logits.argmax(dim=1).tolist(), logits.softmax(dim=1)
    for metric, precision in (("accuracy", "fp32"), ("int8_accuracy", "int8")):
        session = BundleSession(bundle, precision=precision)
        own = session.predict(texts).argmax(axis=1).tolist()
        student = torch.from_numpy(session.logits(session.encoder.encode(texts))).softmax(dim=1)
        apart = (wanted * (wanted / student).log()).sum(dim=1).mean().item()
        assert read(finished)["adabert", metric]["distance"] == pytest.approx(apart, abs=1e-4)
        expected = sum(a == b for a, b in zip(own, teachers, strict=True)) / len(texts)
        assert read(finished)["adabert", metric]["agreement"] == pytest.approx(expected, abs=1e-5)
    assert read(finished)["teacher", "accuracy"]["agreement"] is None
    assert read(finished)["teacher", "accuracy"]["distance"] is None
    text = (finished.parent / "mini.md").read_text()
    assert "## Agreement with the teacher" in text
    assert "## Distance from the teacher" in text
    # Old results have neither. They are compared later, if the models are still there.
    entries = json.loads(finished.read_text())
    (tmp_path / "mini.json").write_text(
        json.dumps([{**entry, "agreement": None, "distance": None} for entry in entries])
    )
    bench_table("--no-latency", "--results", str(tmp_path), "--artifacts", str(tmp_path))
    assert {entry["agreement"] for entry in read(tmp_path / "mini.json").values()} == {None}
    model = bundle.directory / bundle.manifest.models["fp32"].file
    model.rename(tmp_path / model.name)
    output = bench_table("--no-latency", "--results", str(tmp_path))
    (tmp_path / model.name).rename(model)
    assert bench_table.status == 1
    assert "✗ adabert · a · seed 0: comparison with the teacher: " in output
    assert "▸" not in bench_table("--no-latency", "--results", str(tmp_path))
    assert read(tmp_path / "mini.json") == read(finished)


def test_a_run_that_fails_is_reported_and_the_others_go_on(folder, bench_table, tmp_path):
    blocked = tmp_path / "artifacts/tables/mini/a-0/teacher"
    blocked.parent.mkdir(parents=True)
    blocked.write_text("in the way of a directory")
    output = bench_table("--no-latency", "--results", str(tmp_path), "--artifacts", str(tmp_path / "artifacts"))
    assert bench_table.status == 1
    assert "✗ teacher · a · seed 0" in output
    assert "✓ adabert · a · seed 0" in output
    assert list(read(tmp_path / "mini.json")) == [("adabert", "accuracy"), ("adabert", "int8_accuracy")]
    assert "–" in (tmp_path / "mini.md").read_text()


def test_the_weights_of_a_teacher_with_a_head_on_the_mean_are_counted_in_a_process_that_did_not_train_it(tmp_path):
    model = mean_classifier(bert := tiny_teacher(tmp_path / "bert"))
    model.save_pretrained(tmp_path / "mean")
    shutil.copy(bert / "tokenizer.json", tmp_path / "mean")
    program = "from pathlib import Path\nfrom bench.tables.train import count_parameters\nprint(count_parameters(Path('mean')))"
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "HF_HUB_OFFLINE": "1"}
    run = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) == sum(weight.numel() for weight in model.parameters())


def test_a_column_may_report_the_f1_of_a_label(folder, bench_table, finished):
    """Half of dev is "positive", so accuracy and F1 differ unless both are 1. The expected F1 is computed from counts."""
    text = MINI.format(folder=folder).replace(
        'dev = "dev.tsv"', 'dev = "dev.tsv"\nmetric = "f1"\npositive = "positive"'
    )
    (folder / "f1.toml").write_text(text.replace("epochs = 2, batch_size", "epochs = 1, batch_size"))
    bench_table("--no-latency", table="f1.toml")
    entries = read(folder / "bench/results/f1.json")
    assert list(entries) == [("teacher", "f1"), ("adabert", "f1"), ("adabert", "int8_f1")]
    bundle = Bundle(folder / "artifacts/tables/f1/a-0/adabert/bundle")
    rows = [line.split("\t") for line in (folder / "dev.tsv").read_text().splitlines()[1:]]
    predicted = BundleSession(bundle, precision="int8").predict([text for text, _ in rows]).argmax(axis=1)
    pairs = [(bundle.manifest.labels[i], label) for i, (_, label) in zip(predicted, rows, strict=True)]
    hits = pairs.count(("positive", "positive"))
    missed = pairs.count(("negative", "positive")) + pairs.count(("positive", "negative"))
    assert entries["adabert", "int8_f1"]["value"] == pytest.approx(2 * hits / (2 * hits + missed), abs=1e-5)
    assert "a (F1)" in (folder / "bench/results/f1.md").read_text()
    (folder / "f1.toml").write_text(text.replace('positive = "positive"', 'positive = "good"'))
    assert "data.a.positive: no label 'good'" in bench_table("--no-latency", "--force", table="f1.toml")
    assert bench_table.status == 1


def test_a_row_may_be_the_linear_model_or_the_frozen_encoder(folder, bench_table):
    text = MINI.format(folder=folder).split("[method.adabert")[0]
    (folder / "rivals.toml").write_text(f'{text}[method.linear]\nstop = "linear"\n[method.frozen]\nstop = "frozen"\n')
    bench_table("--no-latency", table="rivals.toml")
    entries = read(folder / "bench/results/rivals.json")
    assert list(entries) == [("teacher", "accuracy"), ("linear", "accuracy"), ("frozen", "accuracy")]
    runs = folder / "artifacts/tables/rivals/a-0"
    linear = json.loads((runs / "linear/linear/linear.json").read_text())
    assert entries["linear", "accuracy"]["value"] == linear["accuracy"]["dev"]
    frozen = json.loads((runs / "frozen/teacher/card.json").read_text())["frozen"]
    assert entries["frozen", "accuracy"]["value"] == frozen["accuracy"]["dev"]
    f1 = text.replace('"teacher"', '"linear"').replace('dev.tsv"', 'dev.tsv"\nmetric = "f1"\npositive = "positive"')
    (folder / "rivals.toml").write_text(f1)
    with pytest.raises(UserError, match="only the accuracy is known, not the F1 of a"):
        bench_table("--no-latency", table="rivals.toml")


def test_a_mistake_stops_before_anything_is_trained(bench_table):
    with pytest.raises(UserError, match="no such method"):
        bench_table("--only", "method=adabret")
    with pytest.raises(UserError, match=r"train\.tsv: no such file"):
        bench_table("--data", "/nowhere")


def test_a_row_may_take_the_architecture_found_on_another_column(folder, bench_table, tmp_path):
    """All columns share one search. The student of the searched column starts from new weights, as the others do."""
    text = MINI.format(folder=folder).replace("train_limit = 100", "train_limit = 80")
    column = text[text.index("[data.a]") : text.index("[method.teacher]")]
    text = text.replace(column, column + column.replace("[data.a]", "[data.b]").replace("80", "60"))
    text = text.replace("[method.adabert.recipe]", '[method.from-a]\nsearched_on = "a"\n[method.from-a.recipe]')
    (folder / "adapt.toml").write_text(text)
    places = ["--no-latency", "--results", str(tmp_path), "--artifacts", str(tmp_path / "artifacts")]
    output = bench_table("--only", "method=from-a,data=b", *places, table="adapt.toml")
    assert output.count("▸ search") == 1
    output = bench_table("--only", "method=from-a,data=a", *places, table="adapt.toml")
    assert output.count("▸ search") == 0
    runs = tmp_path / "artifacts/tables/adapt"
    found = json.loads((runs / "a-0/from-a.search/architecture/genotype.json").read_text())["genotype"]
    for data, texts in (("a", 80), ("b", 60)):
        card = json.loads((runs / f"{data}-0/from-a/student/card.json").read_text())
        assert card["genotype"] == found
        assert card["sizes"]["train"] == texts
    keys = {key: entry["key"] for key, entry in read(tmp_path / "adapt.json").items()}
    # Another search, another architecture: both are then to be made again.
    (folder / "adapt.toml").write_text(text.replace("search = {epochs = 1,", "search = {beta = 0.2, epochs = 1,"))
    listed = bench_table("--only", "method=from-a", "--list", *places, table="adapt.toml")
    assert listed.count("changed") == 2
    assert len(keys) == 2
