"""`python -m bench compare` from end to end on a small task, and its errors."""

import json
import shutil
import signal
import subprocess
import sys
from xml.etree import ElementTree

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from bench import turns
from bench.__main__ import app
from bench.diff import diff
from bench.isolate import Worker, child_environment, choose_cpus
from bench.report import read_report
from bench.roster import select
from compress.runtime.encode import TextEncoder, pad_batch
from compress.runtime.errors import UserError
from tests.tiny_task import at_call

ENGINES = ["bert-torch", "bert-onnx", "bert-onnx-int8", "teacher-torch", "student-fp32", "student-int8"]
RIVALS = ["majority", "linear", "fasttext", "static"]


@pytest.fixture
def bench(task, monkeypatch):
    """`python -m bench compare tiny.toml ARGUMENTS` in this process, where PyTorch is already imported."""

    def run(*arguments: str) -> int | None:
        """The exit status, where it is not 0."""
        command = ["compare", str(task.recipe), *arguments]
        monkeypatch.setattr(sys, "argv", ["bench", *command])
        monkeypatch.setenv("COLUMNS", "250")
        return app(command, standalone_mode=False)

    return run


@pytest.fixture
def error(task, bench):
    """The error of a command that must fail and write no report."""

    def run(*arguments: str) -> str:
        with pytest.raises(UserError) as caught:
            bench(*arguments)
        assert not (task.workspace / "bench").exists()
        return str(caught.value)

    return run


def test_compare_measures_every_engine_and_keeps_every_sample(task, bench, capfd):
    bench("--bert-config", str(task.bert_config))
    out = task.workspace / "bench"
    names = {"report.json", "report.md", "report.html", "latency_accuracy.png", "latency_accuracy.svg"}
    assert {path.name for path in out.iterdir()} == names  # and nothing temporary
    report = json.loads((out / "report.json").read_text())
    assert [engine["spec"]["name"] for engine in report["engines"]] == ENGINES + RIVALS
    wanted = [(name, size) for name in ("8 tokens", "32 tokens", "own texts") for size in (1, 4)]
    timed = [engine for engine in report["engines"] if engine["spec"]["name"] != "majority"]
    for engine in timed:
        assert [(cell["input"], cell["batch_size"]) for cell in engine["cells"]] == wanted
        assert engine["parameters"] > 0
        assert engine["file_bytes"] > 0
        assert engine["peak_memory_bytes"] > 10e6
        for cell in engine["cells"]:
            check_cell(cell)
    accuracies = {engine["spec"]["name"]: engine["accuracy"] for engine in report["engines"]}
    assert [name for name in ENGINES if accuracies[name] is None] == ENGINES[:3]  # random weights have none
    for student in ("student-fp32", "student-int8"):
        assert accuracies[student] == {"correct": task.right, "total": 8, "right": "11101110"}
    assert accuracies["teacher-torch"]["correct"] == right_answers_of_teacher(task)
    assert accuracies["majority"]["right"] == "11110000"  # most training texts are positive
    assert (report["interleaved"], report["partial"], report["student"]) == (True, None, "student-fp32")
    # The tiny teacher's tokenizer has one token more than its embeddings: no encoder to freeze.
    assert list(report["skipped"]) == ["frozen-onnx", "frozen-onnx-int8"]
    assert all("resize_token_embeddings" in reason for reason in report["skipped"].values())
    check_texts(report, out, capfd.readouterr().out)


def check_cell(cell) -> None:
    """There are whole passes over the inputs, at least the minimum of samples, and the summary is of these samples."""
    taken = len(cell["model_ms"])
    # One pass over its inputs at least, and five rounds of what is too little to share out.
    one_pass = {"own texts": {1: 8, 4: 10}}.get(cell["input"], {1: 20, 4: 5})[cell["batch_size"]]
    assert len(cell["tokenise_ms"]) == taken == sum(cell["rounds"])
    assert taken % one_pass == 0
    assert cell["texts"] == taken * cell["batch_size"]
    assert cell["warm_up"] >= 1
    total = sorted(a + b for a, b in zip(cell["tokenise_ms"], cell["model_ms"], strict=True))
    assert total[0] <= cell["summary"]["total_ms"]["p50"] <= total[-1]
    assert cell["summary"]["total_texts_per_s"] == pytest.approx(1000 * cell["texts"] / sum(total))
    assert (cell["summary"]["total_ms"]["p99"] is None) == (taken < 100)
    if cell["length"]:
        assert cell["mean_tokens"] == cell["length"]


def right_answers_of_teacher(task) -> int:
    """Computed with the model alone, text by text."""
    model = AutoModelForSequenceClassification.from_pretrained(task.teacher).eval()
    encoder = TextEncoder(task.teacher / "tokenizer.json", task.max_length)
    right = 0
    for text, answer in zip(task.texts, task.answers, strict=True):
        batch = pad_batch(encoder.encode([text]), 0)
        with torch.inference_mode():
            logits = model(input_ids=torch.from_numpy(batch["input_ids"])).logits
        right += int(logits.argmax()) == answer
    return right


def check_texts(report, out, printed: str) -> None:
    """The texts for people name every engine, tell which has no accuracy and why, and how to run it again."""
    markdown = (out / "report.md").read_text()
    for engine in report["engines"]:
        tables = 7 if engine["cells"] else 1  # the summary, three latency and three throughput tables
        assert markdown.count(engine["spec"]["title"]) >= tables
        assert engine["spec"]["title"] in printed
    assert "frozen-onnx was left out: teacher.model: " in markdown
    assert "BERT 2×32 · PyTorch fp32: random weights: time only." in markdown
    assert "75.00" in markdown
    assert f"`{report['command']}`" in markdown
    assert "python -m bench compare" in report["command"]
    assert (out / "latency_accuracy.png").read_bytes().startswith(b"\x89PNG")
    ElementTree.parse(out / "latency_accuracy.svg")


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("stop", [interrupt, lambda: signal.raise_signal(signal.SIGTERM)])
def test_ctrl_c_and_a_time_limit_leave_a_valid_report_of_what_was_measured(task, bench, monkeypatch, capsys, stop):
    calls = at_call(60, Worker.ask, stop)
    monkeypatch.setattr(Worker, "ask", lambda *arguments: calls(*arguments))
    assert bench("--only", "student-*") == 130
    report = read_report(task.workspace / "bench")
    assert report.partial is not None
    assert report.partial in capsys.readouterr().err
    counts = {len(engine.cells) for engine in report.engines}
    assert len(report.engines) == 2
    assert 0 < max(counts) < 6
    assert "> **Partial.** The measurement was interrupted" in (task.workspace / "bench" / "report.md").read_text()
    assert diff(report, report)


def test_ctrl_c_before_anything_was_measured_writes_nothing(task, bench, monkeypatch):
    monkeypatch.setattr(Worker, "ask", lambda *arguments: interrupt())
    assert bench("--only", "student-fp32") == 130
    assert not (task.workspace / "bench").exists()


def test_a_condition_of_the_command_line_fails_it_after_the_report(task, bench, error):
    assert bench("--only", "student-fp32", "--fail-if", "accuracy<0.9", "--fail-if", "file_mb>100") == 1
    assert (task.workspace / "bench" / "report.json").exists()
    assert not bench("--only", "student-fp32", "--fail-if", "accuracy<0.7", "--set", "bench.lengths=[8]")
    shutil.rmtree(task.workspace / "bench")
    assert "needs bert-torch" in error("--only", "student-fp32", "--fail-if", "speedup<100")


def test_with_too_little_memory_engines_are_measured_one_by_one_and_that_is_said(task, bench, monkeypatch, capsys):
    monkeypatch.setattr(turns, "PROCESS_BYTES", 1e15)
    bench("--only", "student-*", "--set", "bench.lengths=[8]")
    report = read_report(task.workspace / "bench")
    assert not report.interleaved
    assert [len(engine.cells) for engine in report.engines] == [4, 4]
    assert "too little free memory" in capsys.readouterr().err
    assert "one engine after the other" in (task.workspace / "bench" / "report.md").read_text()


def test_only_and_skip_choose_engines_and_out_the_place(bench, tmp_path):
    place = tmp_path / "elsewhere"
    bench("--only", "student-*,teacher-torch", "--skip", "teacher-*,student-int8", "--out", str(place))
    report = json.loads((place / "report.json").read_text())
    assert [engine["spec"]["name"] for engine in report["engines"]] == ["student-fp32"]
    # Without PyTorch's BERT there is no speed-up.
    assert "×" not in (place / "report.md").read_text().split("## Latency")[1].split("## What")[0]


def test_a_bundle_alone_can_be_measured(task, bench):
    shutil.rmtree(task.teacher)
    bench("--only", "student-fp32")
    assert (task.workspace / "bench" / "report.md").exists()


def test_missing_teacher_says_what_to_run(task, error):
    shutil.rmtree(task.teacher)
    message = error()
    assert message.startswith("artifacts/tiny/teacher: no teacher there")
    assert "pocketbert compress" in message


def test_missing_bundle_is_one_line_and_exit_status_2(task):
    command = [sys.executable, "-m", "bench", "compare", str(task.recipe), "--bundle", "nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, env=child_environment(1), timeout=300)
    assert done.returncode == 2
    assert done.stderr.startswith("error: nowhere: ")
    assert done.stderr.count("\n") == 1
    assert "pocketbert compress" in done.stderr


def test_unknown_engine_lists_the_engines(error):
    message = error("--only", "berd-torch")
    assert message.startswith("--only berd-torch: no such engine")
    assert all(name in message for name in ENGINES)


def test_a_length_beyond_the_models_is_refused_before_anything_is_measured(error):
    message = error("--only", "student-fp32", "--set", "bench.lengths=[8,64]")
    assert message == "bench.lengths: student-fp32 takes 48 tokens at most, not 64"


def test_lengths_that_nobody_asked_for_are_cut_to_what_the_task_takes(task, bench):
    written = task.recipe.read_text()
    task.recipe.write_text("\n".join(line for line in written.splitlines() if "lengths" not in line))
    bench("--only", "student-fp32,linear")
    assert read_report(task.workspace / "bench").inputs == ["32 tokens", "48 tokens", "own texts"]
    table = (task.workspace / "bench" / "report.md").read_text().split("## All engines")[0]
    assert "| **Student · ONNX Runtime fp32** | **75.00** |" in table
    assert "p50: one text, 48 tokens, " in table


def test_an_error_in_the_measuring_process_names_its_engine(task, error):
    (task.bundle / "model.fp32.onnx").write_bytes(b"no model")
    task.rewrite_manifest()
    message = error("--only", "student-fp32")
    assert message.startswith("student-fp32: ")
    assert "model.fp32.onnx" in message


def test_a_bundle_of_another_task_is_refused(task, error):
    task.rewrite_manifest(labels=["cold", "warm"], golden=None)
    assert "another task's bundle" in error("--only", "student-fp32")


def test_another_bundle_is_measured_beside_the_task_s_own(task, bench):
    other = task.workspace.parent / "other"
    shutil.copytree(task.bundle, other / "bundle")
    bench("--only", "student-int8,beside-*", "--beside", str(other), "--beside", str(other / "bundle"))
    own, *beside = read_report(task.workspace / "bench").engines
    assert [engine.spec.name for engine in beside] == ["beside-1", "beside-2"]
    default = json.loads((other / "bundle" / "manifest.json").read_text())["default"]
    assert {engine.spec.title for engine in beside} == {
        f"Student of other · ONNX Runtime {default.replace('int8', 'INT8')}"
    }
    assert {engine.accuracy.right for engine in beside} == {own.accuracy.right}  # the same model
    assert "| Student of other · ONNX Runtime" in (task.workspace / "bench" / "report.md").read_text()


def test_a_bundle_beside_must_be_of_the_same_task(task, error):
    other = task.workspace.parent / "other"
    task.rewrite_manifest(golden=None)
    shutil.copytree(task.bundle, other)
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps(manifest | {"labels": ["cold", "warm"]}))
    message = error("--only", "student-fp32,beside-1", "--beside", str(other))
    assert message.startswith(f"{other}: its labels are")
    assert error("--beside", "nowhere").startswith("nowhere: ")


def test_a_report_that_could_not_be_written_is_refused_before_anything_is_measured(task, error):
    message = error("--only", "student-fp32", "--out", f"{task.recipe}/report")
    assert message == f"--out {task.recipe}/report: {task.recipe} is not a directory; choose another place"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_that_is_not_there_is_an_error(error):
    assert error("--device", "cuda").startswith("--device cuda: ")


def test_more_threads_than_cpus_is_an_error():
    with pytest.raises(UserError, match=r"bench\.threads: 100000 threads"):
        choose_cpus(100_000)


def test_one_thread_gets_one_cpu():
    cpus = choose_cpus(1)
    assert cpus is None or len(cpus) == 1


def test_select_keeps_the_order_of_the_table():
    assert select(ENGINES, ["student-*", "bert-torch"], ["*-int8"]) == ["bert-torch", "student-fp32"]
    with pytest.raises(UserError, match="leaves no engine"):
        select(ENGINES, [], ["*"])
