"""Small real bundles, made in a second: a tokenizer trained on a few words and an ONNX model with known weights."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from compress.runtime.encode import TextEncoder
from export.bundle import MANIFEST, TOKENIZER, file_entry
from export.golden import GOLDEN, GoldenExamples
from export.manifest import FORMAT, Manifest, ModelEntry
from export.session import OnnxModel

# The same arithmetic on every machine: some tests compare trainings number by number.
os.environ["ACCELERATE_MIXED_PRECISION"] = "no"

WORDS = ["good", "bad", "the", "a", "film", "is", "was", "very"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
MakeBundle = Callable[..., Path]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files of the longest tests first, so that no core waits for one of them at the end."""
    items.sort(key=lambda item: "e2e" not in item.path.parts)  # stable: the order within a file stays


def make_tiny_bundle(
    directory: Path,
    *,
    pair: bool = False,
    name: str = "tiny",
    max_length: int = 64,
    labels: tuple[str, str] | None = None,
) -> Path:
    """Write a bundle that counts words: "good" speaks for one label, "bad" for the other.

    Single texts are "negative" or "positive". With `pair`, the second text is "worse" or "better" than the first. `labels` are
    other names for the two.
    """
    directory.mkdir(parents=True)
    tokenizer = _tokenizer()
    tokenizer.save(str(directory / TOKENIZER))
    onnx.save(_word_counter(tokenizer, pair=pair), directory / "model.fp32.onnx")
    names = list(labels or (("worse", "better") if pair else ("negative", "positive")))
    (directory / GOLDEN).write_text(_golden(directory, names, pair=pair).model_dump_json(), encoding="utf-8")
    manifest = Manifest(
        format=FORMAT,
        name=name,
        version="1",
        created="2025-01-01T00:00:00+00:00",
        labels=names,
        max_length=max_length,
        pair=pair,
        pad_token_id=tokenizer.token_to_id("[PAD]"),
        default="fp32",
        models={
            "fp32": ModelEntry(
                file="model.fp32.onnx",
                runtime="onnxruntime",
                dev_accuracy=1.0,
                test_accuracy=1.0,
                drop=0.0,
                passed=True,
                note="made by hand",
            )
        },
        files={file: file_entry(directory / file) for file in (TOKENIZER, "model.fp32.onnx", GOLDEN)},
        provenance={},
        golden=GOLDEN,
    )
    (directory / MANIFEST).write_text(manifest.model_dump_json(indent=2), encoding="utf-8")
    return directory


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for single texts. Shared: a test that changes files makes its own with `make_bundle`."""
    return make_tiny_bundle(tmp_path_factory.mktemp("tiny") / "tiny" / "bundle")


@pytest.fixture(scope="session")
def tiny_pair_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for pairs of texts. Shared, like `tiny_bundle`."""
    return make_tiny_bundle(tmp_path_factory.mktemp("tiny-pair") / "tiny-pair" / "bundle", pair=True, name="tiny-pair")


@pytest.fixture
def make_bundle(tmp_path: Path) -> MakeBundle:
    """Make a bundle of the test's own, under `tmp_path/artifacts/NAME/bundle`; arguments of `make_tiny_bundle`."""

    def make(name: str = "tiny", **options: int) -> Path:
        return make_tiny_bundle(tmp_path / "artifacts" / name / "bundle", name=name, **options)

    return make


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator([" ".join(WORDS)], trainers.WordLevelTrainer(special_tokens=SPECIAL))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def _golden(directory: Path, labels: list[str], *, pair: bool) -> GoldenExamples:
    texts = ["a good film", "a bad film", "the film was very good"]
    texts_b = texts[::-1] if pair else None
    encoded = TextEncoder(directory / TOKENIZER, 64).encode(texts, texts_b)
    logits = OnnxModel(directory / "model.fp32.onnx").logits_in_batches(encoded, 0, 1).tolist()
    ids = [one.input_ids.tolist() for one in encoded]
    return GoldenExamples(labels=labels, texts=texts, texts_b=texts_b, input_ids=ids, logits={"fp32": logits})


def _word_counter(tokenizer: Tokenizer, *, pair: bool) -> onnx.ModelProto:
    """Embedding (V, 2) -> mean over the tokens (B, 2) -> projection (B, 2); in a pair the first text counts against."""
    embedding = np.zeros((tokenizer.get_vocab_size(), 2), np.float32)
    embedding[tokenizer.token_to_id("good")] = [-8, 8]
    embedding[tokenizer.token_to_id("bad")] = [8, -8]
    constants = {
        "embedding": embedding,
        "projection": np.eye(2, dtype=np.float32),
        "tokens": np.array([1]),
        "last": np.array([2]),
        "two": np.array(2, np.float32),
        "one": np.array(1, np.float32),
    }
    sign = [
        helper.make_node("Cast", ["segments"], ["second"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["second", "two"], ["doubled"]),
        helper.make_node("Sub", ["doubled", "one"], ["sign"]),
        helper.make_node("Mul", ["mask", "sign"], ["weights"]),
    ]
    nodes = [
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        *(sign if pair else [helper.make_node("Identity", ["mask"], ["weights"])]),
        helper.make_node("Gather", ["embedding", "input_ids"], ["embedded"]),  # (B, L, 2)
        helper.make_node("Unsqueeze", ["weights", "last"], ["column"]),  # (B, L, 1)
        helper.make_node("Mul", ["embedded", "column"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "tokens"], ["sum"], keepdims=0),  # (B, 2)
        helper.make_node("ReduceSum", ["mask", "tokens"], ["count"], keepdims=1),  # (B, 1)
        helper.make_node("Div", ["sum", "count"], ["mean"]),
        helper.make_node("MatMul", ["mean", "projection"], ["logits"]),
    ]
    names = ["input_ids", "attention_mask"] + (["segments"] if pair else [])
    graph = helper.make_graph(
        nodes,
        "word-counter",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["B", "L"]) for name in names],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", 2])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)])
    onnx.checker.check_model(model)
    return model
