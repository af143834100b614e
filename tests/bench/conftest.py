"""A small task: data, a random BERT teacher, and a bundle whose answers are known."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification

from export.bundle import MANIFEST, TOKENIZER, Bundle, file_entry
from export.manifest import ModelEntry

LABELS = ["negative", "positive"]
MAX_LENGTH = 48
BERT_SIZE = {
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
# The bundle's model compares the number of "good" and "bad". It is right on six of these eight.
TEST_ROWS = [
    ("the film was very good", "positive"),
    ("a good film", "positive"),
    ("the film is good and the film was good", "positive"),
    ("the film was not bad", "positive"),
    ("a very bad film", "negative"),
    ("the film was bad the film is bad", "negative"),
    ("bad", "negative"),
    ("the film was not good", "negative"),
]
TRAIN_ROWS = [("good is good", "positive"), ("a film is good", "positive"), ("bad is bad", "negative")]
DEV_ROWS = [("the good film", "positive"), ("the bad film", "negative")]


@dataclass
class Task:
    """Where everything is, and how many answers of the bundle's models are right."""

    recipe: Path
    workspace: Path
    bert_config: Path
    texts: list[str]  # of the test split
    answers: list[int]
    right: int = 6  # answers that the bundle's models give
    max_length: int = MAX_LENGTH
    labels = LABELS

    @property
    def teacher(self) -> Path:
        return self.workspace / "teacher"

    @property
    def bundle(self) -> Path:
        return self.workspace / "bundle"

    def rewrite_manifest(self, **changes: object) -> None:
        """Bring the bundle's manifest in line with its files, with `changes` to it."""
        manifest = json.loads((self.bundle / MANIFEST).read_text())
        files = [path for path in self.bundle.iterdir() if path.name != MANIFEST]
        manifest["files"] = {path.name: file_entry(path).model_dump() for path in files}
        (self.bundle / MANIFEST).write_text(json.dumps(manifest | changes))


@pytest.fixture(autouse=True)
def idle_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine is idle, so that no test waits a second to look at its CPUs, and has memory for all engines together."""
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval, percpu: [0.0])
    monkeypatch.setattr("bench.turns.PROCESS_BYTES", 0.0)


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_bundle: Callable[..., Path]) -> Task:
    """A recipe `tiny`, its teacher and its bundle in artifacts/tiny of the current directory, and an empty cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POCKETBERT_CACHE", str(tmp_path / "cache"))
    for name, rows in (("train", TRAIN_ROWS), ("dev", DEV_ROWS), ("test", TEST_ROWS)):
        (tmp_path / f"{name}.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in [("text", "label"), *rows]))
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(
        f"""
        [data]
        source = "files"
        train = "train.tsv"
        dev = "dev.tsv"
        test = "test.tsv"
        max_length = {MAX_LENGTH}
        [teacher]
        model = "artifacts/tiny/teacher"
        [bench]
        lengths = [8, 32]
        batch_size = 4
        seconds = 0.01
        """
    )
    config = tmp_path / "bert.json"
    config.write_text(json.dumps(BERT_SIZE))
    bundle = make_bundle("tiny", max_length=MAX_LENGTH)
    answers = [LABELS.index(label) for _, label in TEST_ROWS]
    made = Task(recipe, bundle.parent, config, [text for text, _ in TEST_ROWS], answers)
    _add_int8(made)
    _make_teacher(made)
    return made


@pytest.fixture
def tokenizer_file(tmp_path: Path) -> Path:
    """A WordPiece tokenizer. "unwatchable" and "rewatchable" are three tokens each."""
    words = ["a", "the", "film", "book", "plot", "was", "is", "very", "not", "and", "good", "bad"]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words, "un", "re", "##watch", "##able", "."]
    ids = {token: i for i, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    path = tmp_path / TOKENIZER
    tokenizer.save(str(path))
    return path


def _add_int8(task: Task) -> None:
    quantize_dynamic(task.bundle / "model.fp32.onnx", task.bundle / "model.int8.onnx", weight_type=QuantType.QInt8)
    entries = Bundle(task.bundle).manifest.models
    int8 = ModelEntry(**(entries["fp32"].model_dump() | {"file": "model.int8.onnx"}))
    task.rewrite_manifest(models={name: entry.model_dump() for name, entry in {**entries, "int8": int8}.items()})


def _make_teacher(task: Task) -> None:
    torch.manual_seed(0)
    vocabulary = Tokenizer.from_file(str(task.bundle / TOKENIZER)).get_vocab_size()
    names = {"id2label": dict(enumerate(LABELS)), "label2id": {name: i for i, name in enumerate(LABELS)}}
    BertForSequenceClassification(BertConfig(**BERT_SIZE, vocab_size=vocabulary, **names)).save_pretrained(task.teacher)
    shutil.copy(task.bundle / TOKENIZER, task.teacher)
