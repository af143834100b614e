"""The INT8 graph of a convolutional student for a CPU: no mask, no transpose, no weight that can be folded; the same logits."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from compress.runtime.encode import Encoded, pad_batch
from compress.runtime.errors import UserError
from compress.students import CnnStudent, CnnStudentConfig
from compress.students.genotype import Edge, Genotype, identity_genotype, residual_genotype
from export.onnx import export_onnx
from export.quantize import cpu_schemes, quantize
from export.session import OnnxModel
from tests.tiny_task import GENOTYPE

BATCHES, LENGTHS, VOCABULARY, MAX_LENGTH = (1, 2, 7, 32), (1, 2, 5, 31, 128), 200, 128
# The default recipe's kind of cell; its last node is read by the output alone.
SEARCHED = Genotype(
    cells=1,
    nodes=(
        (Edge(source=1, operation="conv3"), Edge(source=1, operation="conv5")),
        (Edge(source=2, operation="conv3"), Edge(source=1, operation="identity")),
        (Edge(source=3, operation="conv3"), Edge(source=3, operation="identity")),
    ),
)
# Nothing but a zero enters a node, a zero beside another edge, both inputs, and an identity of a node that is not computed.
ODD = Genotype(
    cells=2,
    nodes=(
        (Edge(source=0, operation="zero"),),
        (Edge(source=0, operation="avg_pool3"), Edge(source=2, operation="zero"), Edge(source=1, operation="identity")),
        (
            Edge(source=3, operation="identity"),
            Edge(source=2, operation="max_pool3"),
            Edge(source=0, operation="identity"),
        ),
    ),
)


def make_student(
    directory: Path, genotype: Genotype, members: int = 1, pair_inputs: str | None = None, halvings: int = 0
) -> CnnStudent:
    """A student whose statistics, node weights and state weights are not those it starts with."""
    torch.manual_seed(0)
    config = CnnStudentConfig(
        vocab_size=VOCABULARY,
        width=16,
        members=members,
        halvings=halvings,
        genotype=genotype.model_dump(mode="json"),
        pair=pair_inputs is not None,
        pair_inputs=pair_inputs or "together",
        num_labels=3,
    )
    student = CnnStudent(config).train()
    with torch.no_grad():
        for name, weight in student.named_parameters():
            if name.endswith(("node_weights", "state_weights")):
                weight.copy_(torch.randn_like(weight))
        for _ in range(5):
            student(torch.randint(0, VOCABULARY, (8, 12)), token_type_ids=torch.ones(8, 12).long())
    student.eval().save_pretrained(directory)
    return student


def texts(count: int, longest: int, seed: int = 0) -> list[Encoded]:
    """Random texts; the first is the longest, the second is alone with its length, others share theirs."""
    rng = np.random.default_rng(seed)
    lengths = [longest, *(max(1, longest - 1 - 3 * (row // 2)) for row in range(1, count))][:count]
    found = []
    for length in lengths:
        ids = rng.integers(0, VOCABULARY, length)
        found.append(Encoded(ids, ids * 0, (np.arange(length) >= (length + 1) // 2).astype(np.int64)))
    return found


def of_pytorch(student: CnnStudent, batch: dict[str, np.ndarray]) -> np.ndarray:
    names = ("input_ids", "attention_mask", "segments")
    with torch.inference_mode():
        return student(*(torch.from_numpy(batch[name]) for name in names)).logits.numpy()


CASES: dict[str, tuple] = {
    "one cell": (SEARCHED, 1, None),
    "two members": (SEARCHED, 2, None),
    "pools and two cells": (GENOTYPE, 2, None),
    "odd": (ODD, 1, None),
    "no operation": (identity_genotype(), 1, None),
    "three cells": (residual_genotype(3), 1, None),
    "aligned": (SEARCHED, 2, "aligned"),
    "together": (GENOTYPE, 1, "together"),
    "streams": (ODD, 1, "streams"),
    "half of the positions": (SEARCHED, 2, None, 1),
    "a quarter in the second cell": (ODD, 1, None, 2),
    "half of the positions after the first halving": (residual_genotype(3), 1, None, 1),
    "aligned, half of the positions": (SEARCHED, 2, "aligned", 1),
    "together, a quarter": (GENOTYPE, 1, "together", 2),
    "streams, half of the positions": (ODD, 1, "streams", 1),
}


@pytest.mark.parametrize("case", CASES)
def test_both_graphs_have_the_logits_of_pytorch_at_every_batch_and_length(tmp_path: Path, case: str) -> None:
    pair_inputs = CASES[case][2]
    student = make_student(tmp_path / "student", *CASES[case])
    for for_int8 in (False, True):
        file = tmp_path / f"{for_int8}.onnx"
        export_onnx(tmp_path / "student", file, pair=pair_inputs is not None, max_length=MAX_LENGTH, for_int8=for_int8)
        model = OnnxModel(file)
        takes_mask = "attention_mask" in {node.name for node in model.session.get_inputs()}
        assert takes_mask == (not for_int8 or pair_inputs == "streams")
        for batch in BATCHES:
            for length in LENGTHS:
                padded = pad_batch(texts(batch, length), 0)
                expected = of_pytorch(student, padded)
                assert expected.std() > 1e-3
                np.testing.assert_allclose(model.logits(padded), expected, atol=1e-4, rtol=0)


def optimized_nodes(file: Path, directory: Path) -> Counter[str]:
    """The operators that ONNX Runtime really runs."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(directory / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(directory / "optimized.onnx").graph.node)


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("scheme", cpu_schemes("pocketbert_cnn")[:2], ids=lambda scheme: scheme.note)
def test_the_int8_graph_has_nothing_but_the_network(tmp_path: Path, members: int, scheme) -> None:
    student = make_student(tmp_path / "student", SEARCHED, members)
    export_onnx(tmp_path / "student", tmp_path / "source.onnx", pair=False, max_length=MAX_LENGTH, for_int8=True)
    quantize(tmp_path / "source.onnx", tmp_path / "int8.onnx", scheme, texts(64, 60, seed=1), 0)
    nodes = optimized_nodes(tmp_path / "int8.onnx", tmp_path)
    assert nodes["QLinearConv"] == 4
    assert nodes["QLinearAdd"] == 4  # of two convolutions, of a residual, and two for the output
    assert not {"Conv", "Mul", "QLinearMul", "Add", "Transpose", "QuantizeLinear"} & nodes.keys()
    assert nodes["DequantizeLinear"] == 4  # mean and maximum of both states
    assert sum(nodes.values()) <= 25
    padded = pad_batch(texts(32, 40, seed=2), 0)
    expected, found = of_pytorch(student, padded), OnnxModel(tmp_path / "int8.onnx").logits(padded)
    assert np.abs(found - expected).mean() < 0.1 * expected.std()


@pytest.mark.parametrize("case", [case for case in CASES if "streams" not in case])
def test_every_genotype_is_quantised_whole_and_close_to_fp32(tmp_path: Path, case: str) -> None:
    pair_inputs = CASES[case][2]
    student = make_student(tmp_path / "student", *CASES[case])
    source, int8 = tmp_path / "source.onnx", tmp_path / "int8.onnx"
    export_onnx(tmp_path / "student", source, pair=pair_inputs is not None, max_length=MAX_LENGTH, for_int8=True)
    for scheme in cpu_schemes("pocketbert_cnn"):
        quantize(source, int8, scheme, texts(64, 60, seed=1), 0)
        nodes = optimized_nodes(int8, tmp_path)
        assert not {"Conv", "FusedConv"} & nodes.keys()
        padded = pad_batch(texts(32, 40, seed=2), 0)
        expected, found = of_pytorch(student, padded), OnnxModel(int8).logits(padded)
        assert np.abs(found - expected).mean() < 0.2 * expected.std(), scheme.note
        if case == "three cells" and "Gather" in scheme.operators:
            assert sum(nodes.values()) <= 3 * 25


def test_a_graph_without_a_mask_is_never_padded(tmp_path: Path) -> None:
    make_student(tmp_path / "student", SEARCHED)
    export_onnx(tmp_path / "student", tmp_path / "source.onnx", pair=False, max_length=MAX_LENGTH, for_int8=True)
    with pytest.raises(UserError, match="takes no padding; choose another precision"):
        OnnxModel(tmp_path / "source.onnx", pad_up_to=MAX_LENGTH)


def test_a_text_without_tokens_counts_as_a_padding_token(tmp_path: Path) -> None:
    make_student(tmp_path / "student", SEARCHED)
    export_onnx(tmp_path / "student", tmp_path / "source.onnx", pair=False, max_length=MAX_LENGTH, for_int8=True)
    nothing, padding = np.zeros(0, np.int64), np.zeros(1, np.int64)
    model = OnnxModel(tmp_path / "source.onnx")
    batch = [*texts(1, 9), Encoded(nothing, nothing, nothing), Encoded(padding, padding, padding)]
    logits = model.logits(pad_batch(batch, 0))
    assert np.isfinite(logits).all()
    np.testing.assert_array_equal(logits[1], logits[2])
