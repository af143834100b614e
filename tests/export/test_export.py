"""Export of small real students: graphs, comparison with PyTorch, calibration, gate, engines."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from compress.data.corpus import Corpus, Split
from compress.runtime.encode import Encoded, TextEncoder, pad_batch
from compress.runtime.errors import UserError
from compress.students import BiLstmConfig, BiLstmStudent, CnnStudent, CnnStudentConfig
from compress.training.quantization_aware import rounding
from export.gate import Gate
from export.onnx import export_onnx
from export.quantize import TENSORRT_SCHEME, cpu_schemes, output_layers, quantize
from export.session import OnnxModel
from export.tensorrt import build_engine
from tests.conftest import make_tiny_bundle
from tests.tiny_task import GENOTYPE


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
    bound = build_engine(graph, engine, 64, "8.9")
    assert bound.package == "tensorrt-rtx"
    assert bound.compute_capability == "8.9"
    assert engine.stat().st_size > 10_000
    with pytest.raises(UserError, match=r"does not build for 1\.0; it builds for 7\.5"):
        build_engine(graph, engine, 64, "1.0")


def test_tensorrt_refuses_the_cpu_graph_with_its_reason(exported: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings", reason="needs pip install '.[rtx]'")
    _, file = exported
    quantize(file, tmp_path / "cpu.onnx", cpu_schemes("pocketbert_cnn")[0], random_texts(), 0)
    with pytest.raises(UserError, match="cannot parse it"):
        build_engine(tmp_path / "cpu.onnx", tmp_path / "x.engine", 64, "8.9")
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
    build_engine(tmp_path / "qdq.onnx", tmp_path / "model.engine", 64, "8.9")
    assert (tmp_path / "model.engine").stat().st_size > 10_000


def test_the_gate_measures_accuracy_and_fails_a_drop_over_the_budget(tmp_path: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "bundle")
    texts = ["a good film", "a bad film", "good good", "bad bad", "the film was very good"] * 4
    labels = [1, 0, 1, 0, 1] * 4
    corpus = Corpus(
        ["negative", "positive"], {name: Split(texts, None, labels, None) for name in ("train", "dev", "test")}
    )
    # The same model with negated logits is wrong on every text.
    broken = onnx.load(bundle / "model.fp32.onnx")
    output = broken.graph.output[0].name
    broken.graph.node.append(onnx.helper.make_node("Neg", [output], ["negated"]))
    broken.graph.output[0].name = "negated"
    onnx.save(broken, tmp_path / "broken.onnx")
    gate = Gate(corpus, TextEncoder(bundle / "tokenizer.json", 64), 0, budget=1.0)
    reference, result = gate.evaluate(bundle / "model.fp32.onnx"), gate.evaluate(tmp_path / "broken.onnx")
    assert reference.passed
    assert (reference.dev, reference.test, reference.drop) == (1.0, 1.0, 0.0)
    assert not result.passed
    assert (result.dev, result.drop) == (0.0, 100.0)
