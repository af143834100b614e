"""Export of small real students: graphs, comparison with PyTorch, calibration, gate, engines."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from compress.console import machine_fault
from compress.data.corpus import Corpus, Split
from compress.recipe.sections import ExportOptions
from compress.runtime.encode import Encoded, TextEncoder, pad_batch
from compress.runtime.errors import UserError
from compress.students import BiLstmConfig, BiLstmStudent, CnnStudent, CnnStudentConfig
from compress.training.quantization_aware import rounding
from export.gate import Gate, GateResult
from export.onnx import export_onnx
from export.quantize import (
    FLOAT_EMBEDDINGS,
    TENSORRT_SCHEME,
    cpu_schemes,
    output_layers,
    prepare,
    quantize,
    quantize_prepared,
)
from export.session import OnnxModel
from export.tensorrt import build_engine, shape_profile
from tests.conftest import make_tiny_bundle
from tests.tiny_task import GENOTYPE

SHAPES = shape_profile([8, 20], 64)


def make_student(directory: Path, pair: bool, pair_inputs: str = "aligned") -> Path:
    torch.manual_seed(0)
    genotype = GENOTYPE.model_dump(mode="json")
    config = CnnStudentConfig(
        vocab_size=300, width=32, genotype=genotype, pair=pair, pair_inputs=pair_inputs, num_labels=3
    )
    student = CnnStudent(config).train()
    with torch.no_grad():
        for _ in range(10):
            student(torch.randint(0, 300, (8, 12)), token_type_ids=torch.ones(8, 12).long())
    student.eval().save_pretrained(directory)
    return directory


@pytest.fixture(scope="module", params=[False, True], ids=["single", "pair"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The student directory and its fp32 ONNX file."""
    directory = tmp_path_factory.mktemp("student")
    student = make_student(directory / "student", request.param)
    export_onnx(student, directory / "model.onnx", pair=request.param, max_length=128)
    return student, directory / "model.onnx"


def random_texts(count: int = 64) -> list[Encoded]:
    rng = np.random.default_rng(0)
    encoded = []
    for _ in range(count):
        length = int(rng.integers(4, 30))
        ids = rng.integers(0, 300, length)
        encoded.append(Encoded(ids, ids * 0, (np.arange(length) >= length // 2).astype(np.int64)))
    return encoded


def test_onnx_answers_like_pytorch_at_lengths_it_was_not_traced_with(exported: tuple[Path, Path]) -> None:
    student_directory, file = exported
    student = CnnStudent.from_pretrained(student_directory).eval()
    texts = random_texts(20)
    logits = OnnxModel(file).logits_in_batches(texts, 0, batch_size=6)
    for text, row in zip(texts, logits, strict=True):
        with torch.inference_mode():
            alone = student(
                torch.from_numpy(text.input_ids)[None], token_type_ids=torch.from_numpy(text.segments)[None]
            ).logits
        np.testing.assert_allclose(row, alone[0].numpy(), atol=1e-4)


def test_rounding_in_training_changes_the_logits_about_as_much_as_the_int8_graph(
    exported: tuple[Path, Path], tmp_path: Path
) -> None:
    student_directory, file = exported
    student, texts = CnnStudent.from_pretrained(student_directory).eval(), random_texts()
    quantize(file, tmp_path / "int8.onnx", cpu_schemes("pocketbert_cnn")[0], texts, 0)
    padded = {name: torch.from_numpy(values) for name, values in pad_batch(texts, 0).items()}
    inputs = (padded["input_ids"], padded["attention_mask"], padded["segments"])
    with torch.no_grad():
        exact = student(*inputs).logits
        with rounding(student):
            expected = (student(*inputs).logits - exact).std()
    int8 = torch.from_numpy(OnnxModel(tmp_path / "int8.onnx").logits_in_batches(texts, 0))
    assert 0.5 < expected / (int8 - exact).std() < 2


@pytest.mark.parametrize("pair_inputs", ["aligned", "streams"])
def test_a_pairs_inputs_survive_export_and_quantisation(tmp_path: Path, pair_inputs: str) -> None:
    student = make_student(tmp_path / "student", pair=True, pair_inputs=pair_inputs)
    assert export_onnx(student, tmp_path / "model.onnx", pair=True, max_length=128) < 1e-4
    texts = random_texts()
    quantize(tmp_path / "model.onnx", tmp_path / "int8.onnx", cpu_schemes("pocketbert_cnn")[0], texts, 0)
    exact, int8 = (OnnxModel(tmp_path / name).logits_in_batches(texts, 0) for name in ("model.onnx", "int8.onnx"))
    assert np.abs(int8 - exact).mean() < 0.2 * exact.std()


@pytest.mark.parametrize("scheme", cpu_schemes("pocketbert_cnn"), ids=lambda s: s.note)
def test_int8_for_the_cpu_is_u8_by_7_bit_s8_and_close(exported: tuple[Path, Path], tmp_path: Path, scheme) -> None:
    _, file = exported
    target = tmp_path / "int8.onnx"
    texts = random_texts()
    quantize(file, target, scheme, texts, 0)
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(target).graph.initializer}
    filters = [a for a in constants.values() if a.dtype == np.int8 and a.ndim == 3]
    assert sum(f.shape[2] > 1 for f in filters) == 6  # three convolutions in each of two cells
    assert all(np.abs(f.astype(int)).max() <= 64 for f in filters)
    expected, got = (OnnxModel(f).logits_in_batches(texts, 0) for f in (file, target))
    assert np.corrcoef(expected.ravel(), got.ravel())[0, 1] > 0.95
    assert output_layers(onnx.load(target).graph) == output_layers(onnx.load(file).graph)  # as Gemm in float
    assert [p.name for p in tmp_path.iterdir()] == ["int8.onnx"]


def test_tensorrt_builds_an_engine_without_a_gpu(exported: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings", reason="needs pip install '.[rtx]'")
    _, file = exported
    graph, engine = tmp_path / "qdq.onnx", tmp_path / "model.engine"
    quantize(file, graph, TENSORRT_SCHEME, random_texts(), 0)
    bound = build_engine(graph, engine, SHAPES, "8.9")
    assert bound.package == "tensorrt-rtx"
    assert bound.compute_capability == "8.9"
    assert engine.stat().st_size > 10_000
    with pytest.raises(UserError, match=r"does not build for 1\.0; it builds for 7\.5"):
        build_engine(graph, engine, SHAPES, "1.0")


def test_tensorrt_refuses_the_cpu_graph_with_its_reason(exported: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings", reason="needs pip install '.[rtx]'")
    _, file = exported
    quantize(file, tmp_path / "cpu.onnx", cpu_schemes("pocketbert_cnn")[0], random_texts(), 0)
    with pytest.raises(UserError, match="cannot parse it"):
        build_engine(tmp_path / "cpu.onnx", tmp_path / "x.engine", SHAPES, "8.9")
    assert not (tmp_path / "x.engine").exists()


@pytest.mark.parametrize("pair", [False, True], ids=["single", "pair"])
@pytest.mark.parametrize(("kind", "operator"), [("transformer", "MatMulInteger"), ("bilstm", "DynamicQuantizeLSTM")])
def test_transformers_and_lstms_are_exported_quantised_and_built_too(
    tmp_path: Path, kind: str, operator: str, pair: bool
) -> None:
    torch.manual_seed(0)
    bert = BertConfig(
        vocab_size=300, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, num_labels=3
    )
    lstm = BiLstmConfig(vocab_size=300, width=32, hidden=16, pair=pair, num_labels=3)
    student = BertForSequenceClassification(bert) if kind == "transformer" else BiLstmStudent(lstm)
    with torch.no_grad():
        student.classifier.weight.mul_(10)  # so that the logits differ between texts
    student.eval().save_pretrained(tmp_path / "student")
    fp32, int8 = tmp_path / "fp32.onnx", tmp_path / "int8.onnx"
    export_onnx(tmp_path / "student", fp32, pair=pair, max_length=64)
    texts = [Encoded(t.input_ids, t.segments, t.segments) for t in random_texts()]
    for text, row in zip(texts[:10], OnnxModel(fp32).logits_in_batches(texts[:10], 0, batch_size=4), strict=True):
        types = torch.from_numpy(text.segments)[None] if pair else None
        with torch.inference_mode():
            alone = student(torch.from_numpy(text.input_ids)[None], token_type_ids=types).logits
        np.testing.assert_allclose(row, alone[0].numpy(), atol=1e-4)
    (head,) = output_layers(onnx.load(fp32).graph)
    for scheme in cpu_schemes(student.config.model_type):
        quantize(fp32, int8, scheme, texts, 0)
        assert output_layers(onnx.load(int8).graph)[0].removesuffix("_MatMul") == head  # in float
        assert operator in {node.op_type for node in onnx.load(int8).graph.node}
        expected, got = (OnnxModel(f).logits_in_batches(texts, 0) for f in (fp32, int8))
        assert np.corrcoef(expected.ravel(), got.ravel())[0, 1] > 0.95
        assert int8.stat().st_size < 0.9 * fp32.stat().st_size
    pytest.importorskip("tensorrt_rtx_bindings", reason="needs pip install '.[rtx]'")
    quantize(fp32, tmp_path / "qdq.onnx", TENSORRT_SCHEME, texts, 0)
    build_engine(tmp_path / "qdq.onnx", tmp_path / "model.engine", SHAPES, "8.9")
    assert (tmp_path / "model.engine").stat().st_size > 10_000


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_a_full_disk_is_one_line_at_every_step(exported: tuple[Path, Path], tmp_path: Path) -> None:
    student, file = exported
    full, prepared = tmp_path / "full.onnx", tmp_path / "prepared.onnx"
    full.symlink_to("/dev/full")
    prepare(file, prepared)
    pair = "segments" in {node.name for node in onnx.load(file).graph.input}
    for write in (
        lambda: export_onnx(student, full, pair=pair, max_length=64),
        lambda: prepare(file, full),
        lambda: quantize_prepared(prepared, full, cpu_schemes("pocketbert_cnn")[0], random_texts(), 0),
        lambda: quantize_prepared(prepared, full, FLOAT_EMBEDDINGS, [], 0),
    ):
        with pytest.raises(OSError, match="No space left") as caught:
            write()
        assert "the disk is full" in (machine_fault(caught.value) or "")


TEXTS = ["a good film", "a bad film", "good good", "bad bad", "the film was very good"] * 4
ANSWERS = [1, 0, 1, 0, 1] * 4  # of the word counter


@pytest.fixture
def two_files(tmp_path: Path) -> tuple[Path, Path]:
    """A model that counts words, and the same with negated logits, which gives the other label to every text."""
    bundle = make_tiny_bundle(tmp_path / "bundle")
    negated = onnx.load(bundle / "model.fp32.onnx")
    output = negated.graph.output[0].name
    negated.graph.node.append(onnx.helper.make_node("Neg", [output], ["negated"]))
    negated.graph.output[0].name = "negated"
    onnx.save(negated, tmp_path / "negated.onnx")
    return bundle / "model.fp32.onnx", tmp_path / "negated.onnx"


def through_the_gate(files: tuple[Path, Path], labels: list[int], **options: float) -> tuple[GateResult, GateResult]:
    splits = {name: Split(TEXTS, None, labels, None) for name in ("train", "dev", "test")}
    encoder = TextEncoder(files[0].parent / "tokenizer.json", 64)
    gate = Gate(Corpus(["negative", "positive"], splits), encoder, 0, ExportOptions(**options))
    return gate.evaluate(files[0]), gate.evaluate(files[1])


def test_the_gate_measures_accuracy_and_fails_a_drop_over_the_budget(two_files: tuple[Path, Path]) -> None:
    reference, result = through_the_gate(two_files, ANSWERS, budget=1.0, min_agreement=0)
    assert reference.passed
    assert (reference.dev, reference.test, reference.drop, reference.agreement) == (1.0, 1.0, 0.0, 1.0)
    assert not result.passed
    assert (result.dev, result.drop) == (0.0, 100.0)


def test_a_model_as_accurate_that_answers_otherwise_fails_the_gate(two_files: tuple[Path, Path]) -> None:
    labels = [
        *ANSWERS[:10],
        *(1 - answer for answer in ANSWERS[10:]),
    ]  # each of the two models is right in half of the texts
    reference, result = through_the_gate(two_files, labels)
    assert (reference.dev, result.dev, result.drop) == (0.5, 0.5, 0.0)
    assert reference.dev_error == pytest.approx((0.25 / 20) ** 0.5, abs=1e-5)
    assert result.agreement == 0
    assert not result.passed
    assert through_the_gate(two_files, labels, min_agreement=0)[1].passed


def test_the_gate_says_which_class_lost_most(two_files: tuple[Path, Path]) -> None:
    labels = [1, 1, *ANSWERS[2:]]  # one bad film is labelled as a good one
    reference, result = through_the_gate(two_files, labels)
    assert [(one.label, one.texts, one.drop) for one in result.classes] == [
        ("negative", 7, 100),
        ("positive", 13, 84.62),
    ]
    assert [(one.label, one.accuracy, one.drop) for one in reference.classes] == [
        ("negative", 1, 0),
        ("positive", 0.923077, 0),
    ]
