"""Which engines there are, their way to another process, and that equal models give equal answers."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForSequenceClassification

from bench.baseline import Baseline, BaselineOptions
from bench.cells import Job
from bench.engines import Engine
from bench.engines.onnx import count_weights
from bench.inputs import Texts
from bench.report import Report
from bench.roster import Roster
from bench.task import Task
from compress.data.domains import load_student_corpus
from compress.recipe import load_recipe
from compress.runtime.errors import UserError
from compress.runtime.wordpiece import nanotoken_version
from tests.bench.conftest import LABELS

TEXTS = Texts(["the film was very good", "a film", "bad", "the film was not bad and the film is very good"])
PAIRS = Texts(TEXTS.first, TEXTS.first[::-1])


@pytest.fixture
def roster(task) -> Roster:
    corpus = load_student_corpus(load_recipe(task.recipe))
    options = BaselineOptions(config=task.bert_config)
    return Roster(Task(task.teacher, task.bundle, corpus, task.max_length, "cpu", options))


def logits(engine: Engine, texts: Texts) -> np.ndarray:
    model = engine.open(threads=1, device="cpu")
    return model.logits(model.encode(texts))


def test_an_engine_is_called_as_it_was_offered(roster):
    names = ["bert-torch", "bert-onnx", "bert-onnx-int8", "teacher-torch", "student-fp32", "student-int8"]
    assert roster.names() == names
    assert [roster.engine(name).name for name in names] == names


def test_a_gpu_adds_bf16_and_leaves_out_what_it_cannot_run(task):
    corpus = load_student_corpus(load_recipe(task.recipe))
    on_gpu = Roster(Task(task.teacher, task.bundle, corpus, task.max_length, "cuda", BaselineOptions()))
    assert on_gpu.names() == [
        *("bert-torch", "bert-torch-bf16", "bert-torch-bf16-compiled", "bert-onnx"),
        *("teacher-torch", "teacher-torch-bf16", "teacher-torch-bf16-compiled", "student-fp32"),
    ]
    compiled = on_gpu.engine("teacher-torch-bf16-compiled")
    assert (compiled.name, compiled.title) == (
        "teacher-torch-bf16-compiled",
        "Teacher 2×32 · PyTorch bf16 compiled",
    )


def test_a_job_reaches_its_process_unchanged(roster):
    for name in roster.names():
        engine = roster.engine(name)
        job = Job(
            spec=engine,
            device="cpu",
            threads=1,
            cpus=None,
            lengths=[8],
            batch_size=1,
            seconds=1,
            texts=PAIRS,
            scored=None,
        )
        received = Job.model_validate_json(job.model_dump_json())
        assert received == job
        assert type(received.spec) is type(engine)


def test_reports_in_the_repository_can_still_be_read():
    kept = Path(__file__).parents[2] / "docs/h200/report.json"
    report = Report.model_validate_json(kept.read_text())
    assert [result.spec.name for result in report.engines] == [
        e["spec"]["name"] for e in json.loads(kept.read_text())["engines"]
    ]


@pytest.mark.parametrize("texts", [TEXTS, PAIRS])
def test_exported_bert_equals_pytorch(roster, texts):
    reference = logits(roster.engine("bert-torch"), texts)
    assert reference.shape == (4, 2)
    np.testing.assert_allclose(logits(roster.engine("bert-onnx"), texts), reference, atol=1e-5)
    int8 = logits(roster.engine("bert-onnx-int8"), texts)
    assert not np.allclose(int8, reference, atol=1e-6)  # it is quantised
    np.testing.assert_allclose(int8, reference, atol=0.05)


def test_padding_does_not_change_the_answer(roster):
    for name in roster.names():
        engine = roster.engine(name)
        alone = np.concatenate([logits(engine, Texts([text])) for text in TEXTS.first])
        atol = 0.05 if "int8" in name else 1e-5  # a dynamic range is that of the whole batch
        np.testing.assert_allclose(logits(engine, TEXTS), alone, atol=atol)


def test_no_engine_has_a_slower_tokenizer_than_the_student(roster, task, tokenizer_file):
    for directory in (task.bundle, task.teacher):
        shutil.copy(tokenizer_file, directory)
    version = nanotoken_version()
    task.rewrite_manifest(fast_tokenizer={"version": version, "task_texts": 8, "odd_strings": 10_000})
    models = [roster.engine(name).open(threads=1, device="cpu") for name in roster.names()]
    assert {model.encoder.library for model in models} == {"nanotoken"}
    assert roster.task.rival("Static embeddings").nanotoken == version
    # What the export has checked is the bundle's tokenizer, and no other one.
    (task.teacher / tokenizer_file.name).write_text(tokenizer_file.read_text() + "\n")
    assert roster.engine("teacher-torch").nanotoken is None


def test_teacher_is_the_checkpoint_that_transformers_opens(roster, task):
    opened = roster.engine("teacher-torch").open(threads=1, device="cpu")
    batch = opened.encode(PAIRS)
    model = AutoModelForSequenceClassification.from_pretrained(task.teacher).eval()
    with torch.inference_mode():
        expected = model(
            input_ids=torch.from_numpy(batch["input_ids"]),
            attention_mask=torch.from_numpy(batch["attention_mask"]),
            token_type_ids=torch.from_numpy(batch["type_ids"]),
        ).logits
    np.testing.assert_allclose(opened.logits(batch), expected.numpy(), atol=1e-6)
    assert opened.parameters() == model.num_parameters()
    assert opened.file_bytes == (task.teacher / "model.safetensors").stat().st_size


def test_student_precisions_agree(roster):
    fp32, int8 = (logits(roster.engine(f"student-{precision}"), TEXTS) for precision in ("fp32", "int8"))
    np.testing.assert_allclose(fp32, int8, atol=0.1)
    # "the film was very good" is seven tokens with [CLS] and [SEP]; "good" alone counts, for ±8, in their mean.
    np.testing.assert_allclose(fp32[0], [-8 / 7, 8 / 7], rtol=1e-5)


def test_weights_are_counted_alike_in_every_form(roster, task):
    model = AutoModelForSequenceClassification.from_pretrained(roster.engine("bert-torch").path)
    expected = model.num_parameters()
    assert count_weights(roster.engine("bert-onnx").path) == expected
    assert count_weights(roster.engine("bert-onnx-int8").path) == expected
    # The bundle's table with two columns and its 2 × 2 projection, without scales, zero points and axes.
    vocabulary = Tokenizer.from_file(str(task.bundle / "tokenizer.json")).get_vocab_size()
    for precision in ("fp32", "int8"):
        assert count_weights(task.bundle / f"model.{precision}.onnx") == 2 * vocabulary + 4


def test_baseline_files_are_made_once_and_leave_nothing_behind(roster, task):
    made = roster.engine("bert-onnx-int8").path
    before = made.stat().st_mtime_ns
    again = Baseline(BaselineOptions(config=task.bert_config), task.teacher / "tokenizer.json", LABELS)
    assert again.int8() == made
    assert made.stat().st_mtime_ns == before
    assert {path.name for path in made.parent.iterdir()} == {"checkpoint", made.name}


def test_another_size_or_number_of_labels_is_another_baseline(task):
    tokenizer = task.teacher / "tokenizer.json"
    two = Baseline(BaselineOptions(config=task.bert_config), tokenizer, LABELS).checkpoint()
    three = Baseline(BaselineOptions(config=task.bert_config), tokenizer, [*LABELS, "third"]).checkpoint()
    assert two != three


def test_default_baseline_is_bert_base_with_the_teachers_vocabulary(task):
    baseline = Baseline(BaselineOptions(), task.teacher / "tokenizer.json", LABELS)
    assert baseline.title == "BERT-base"
    assert baseline.note == "random weights: time only"
    assert baseline.max_length == 512


def test_weights_of_a_directory_are_used(task):
    other = ["one", "two"]  # not the labels that it was trained for
    baseline = Baseline(BaselineOptions(model=str(task.teacher)), task.teacher / "tokenizer.json", other)
    made, given = (AutoModelForSequenceClassification.from_pretrained(p) for p in (baseline.checkpoint(), task.teacher))
    assert torch.equal(made.bert.embeddings.word_embeddings.weight, given.bert.embeddings.word_embeddings.weight)
    assert baseline.note == "untrained head: time only"
    assert not baseline.scored


def test_a_classifier_of_the_tasks_labels_is_taken_as_it_is_and_scored(roster, task, tmp_path):
    large = shutil.copytree(task.teacher, tmp_path / "large")
    bert = replace(roster.task, baseline_options=BaselineOptions(model=str(large))).bert()
    assert (bert.scored, bert.note) == (True, "")
    assert bert.tokenizer == large / "tokenizer.json"
    baseline = Baseline(BaselineOptions(model=str(large)), task.teacher / "tokenizer.json", LABELS)
    assert baseline.checkpoint() == large
    first = baseline.onnx()
    model = AutoModelForSequenceClassification.from_pretrained(large)
    torch.nn.init.ones_(model.classifier.bias)
    model.save_pretrained(large)
    trained_further = Baseline(BaselineOptions(model=str(large)), task.teacher / "tokenizer.json", LABELS)
    assert trained_further.onnx() != first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            BaselineOptions(model="no/such/directory/here"),
            "--bert-base: no/such/directory/here: no such directory, and no id of the hub",
        ),
        (
            BaselineOptions(model="./missing"),
            r"^--bert-base ./missing: no such directory; give a directory with a config.json, or an id of the Hugging Face hub such as "
            r"google-bert/bert-base-uncased$",
        ),
        (
            BaselineOptions(model=str(Path(__file__).parent)),
            "has no config.json; give a directory with a config.json, or",
        ),
        (BaselineOptions(config=Path("missing.json")), "--bert-config missing.json: not the config.json of a BERT"),
        (BaselineOptions(config=Path("train.tsv")), "--bert-config train.tsv: not the config.json of a BERT"),
    ],
)
def test_a_baseline_that_cannot_be_made_is_one_line(task, options, message):
    with pytest.raises(UserError, match=message):
        Baseline(options, task.teacher / "tokenizer.json", LABELS)
