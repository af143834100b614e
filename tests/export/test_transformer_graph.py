"""The graph from which a transformer's INT8 graph is made: no mask, one operator for attention, the last layer for one token."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from compress.runtime.encode import Encoded
from export.int8 import export_int8
from export.onnx import export_onnx
from export.quantize import FLOAT_EMBEDDINGS
from export.session import OnnxModel
from tests.tiny_teachers import tiny_teacher_of


def operators(file: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(file).graph.node)


def texts(lengths: list[int]) -> list[Encoded]:
    rng = np.random.default_rng(0)
    ids = [rng.integers(5, 30, length) for length in lengths]
    return [Encoded(i, (np.arange(len(i)) > len(i) // 2).astype(np.int64), i * 0) for i in ids]


# A pair; tokens that see their neighbours only, and rotary embeddings; attention that transformers does not choose.
@pytest.mark.parametrize("family", ["bert", "modernbert", "deberta-v2"])
def test_texts_without_padding_get_the_logits_of_pytorch(tmp_path: Path, family: str) -> None:
    file, pair = tmp_path / "lean.onnx", family == "bert"
    types = {"type_vocab_size": 2} if pair else {}
    directory = tiny_teacher_of(family, tmp_path / family, **types)
    export_onnx(directory, file, pair=pair, max_length=32, for_int8=True)
    assert "attention_mask" not in {node.name for node in onnx.load(file).graph.input}
    model = AutoModelForSequenceClassification.from_pretrained(directory).eval()
    encoded = texts([3, 9, 9, 20])
    found = OnnxModel(file).logits_in_batches(encoded, 0)
    for text, logits in zip(encoded, found, strict=True):
        second = {"token_type_ids": torch.from_numpy(text.type_ids)[None]} if pair else {}
        with torch.inference_mode():
            alone = model(torch.from_numpy(text.input_ids)[None], **second).logits[0].numpy()
        np.testing.assert_allclose(logits, alone, atol=1e-4)


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta", "albert"])
def test_attention_is_one_node_without_reshapes(tmp_path: Path, family: str) -> None:
    directory = tiny_teacher_of(family, tmp_path / family)
    export_onnx(directory, tmp_path / "lean.onnx", pair=False, max_length=32, for_int8=True)
    export_onnx(directory, tmp_path / "padded.onnx", pair=False, max_length=32)
    lean, padded = operators(tmp_path / "lean.onnx"), operators(tmp_path / "padded.onnx")
    assert (lean["MultiHeadAttention"], padded["MultiHeadAttention"]) == (2, 0)  # a layer each
    assert (lean["Softmax"], lean["Transpose"]) == (0, 0)
    assert (padded["Softmax"], padded["IsNaN"]) == (2, 0)
    assert lean["Reshape"] < padded["Reshape"] / 2


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta"])
def test_the_last_layer_is_computed_for_the_first_token_alone(tmp_path: Path, family: str) -> None:
    lengths = lengths_of_products(tiny_teacher_of(family, tmp_path / "teacher"), tmp_path)
    assert lengths[:6] == [20] * 6  # the first layer: queries, keys, values, their sum, two of the feed-forward part
    # In the last one, keys and values are of all tokens.
    assert sorted(lengths[6:12]) == [1, 1, 1, 1, 20, 20]


def test_a_mean_over_all_tokens_needs_all_of_the_last_layer(tmp_path: Path) -> None:
    teacher = tiny_teacher_of("modernbert", tmp_path / "teacher", classifier_pooling="mean")
    assert set(lengths_of_products(teacher, tmp_path)) == {20}


def lengths_of_products(teacher: Path, scratch: Path) -> list[int]:
    """The number of tokens in the result of each product with a weight, for texts of 20 tokens."""
    export_onnx(teacher, scratch / "lean.onnx", pair=False, max_length=32, for_int8=True)
    model = onnx.load(scratch / "lean.onnx")
    products = [node for node in model.graph.node if node.op_type == "MatMul"]
    for node in products:
        model.graph.output.append(onnx.helper.make_tensor_value_info(node.output[0], onnx.TensorProto.FLOAT, None))
    ids = np.arange(5, 25)[None].repeat(2, axis=0)
    onnx.save(model, scratch / "probed.onnx")
    values = OnnxModel(scratch / "probed.onnx").session.run(None, {"input_ids": ids})[1:]
    return [value.shape[1] for value in values if value.ndim == 3]


def test_int8_has_no_fusion_that_is_slow_on_a_cpu(tmp_path: Path) -> None:
    file = tmp_path / "int8.onnx"
    export_int8(tiny_teacher_of("bert", tmp_path / "bert"), file, FLOAT_EMBEDDINGS, pair=False, max_length=32)
    profile = OnnxModel(file, profile=tmp_path / "profile").session
    profile.run(None, {"input_ids": np.arange(5, 25)[None]})
    written = Path(profile.end_profiling()).read_text(encoding="utf-8")
    assert "SkipLayerNormalization" not in written
    assert "DynamicQuantizeMatMul" in written
    assert "MultiHeadAttention" in written


def test_the_answer_in_int8_does_not_depend_on_the_other_texts_of_a_batch(tmp_path: Path) -> None:
    """Dynamic ranges are those of a batch: only texts of one length share them."""
    file = tmp_path / "int8.onnx"
    export_int8(tiny_teacher_of("bert", tmp_path / "bert"), file, FLOAT_EMBEDDINGS, pair=False, max_length=32)
    encoded = texts([3, 7, 12, 20])
    model = OnnxModel(file)
    together = model.logits_in_batches(encoded, 0)
    for text, logits in zip(encoded, together, strict=True):
        np.testing.assert_array_equal(model.logits_in_batches([text], 0)[0], logits)
