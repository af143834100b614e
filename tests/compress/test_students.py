from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    PreTrainedModel,
)

from compress.recipe import recipe_from
from compress.recipe.sections import TransformerOptions
from compress.runtime.errors import UserError
from compress.students import BiLstmConfig, BiLstmStudent, CnnStudent, CnnStudentConfig
from compress.students.downsampling import Downsampling, halved
from compress.students.genotype import NODES, OPERATIONS, Edge, Genotype
from compress.students.input_layer import Alignment, two_streams
from compress.students.operations import build_operation
from compress.students.transformer import copied_layers, make_transformer
from compress.teachers.finetune import load_classifier
from tests.tiny_task import GENOTYPE, tiny_teacher


def make_student(pair: bool = False, pair_inputs: str = "aligned", halvings: int = 0) -> CnnStudent:
    torch.manual_seed(0)
    genotype = GENOTYPE.model_dump(mode="json")
    config = CnnStudentConfig(
        vocab_size=50, width=16, genotype=genotype, pair=pair, pair_inputs=pair_inputs, halvings=halvings, num_labels=3
    )
    student = CnnStudent(config)
    student.train()
    with torch.no_grad():  # give batch normalisation statistics that matter
        for _ in range(5):
            student(torch.randint(0, 50, (8, 12)), token_type_ids=torch.ones(8, 12).long())
    return student.eval()


def make_together(pair: bool = False) -> CnnStudent:
    return make_student(pair, "together")


def make_streams(pair: bool = False) -> CnnStudent:
    return make_student(pair, "streams")


def make_halved(pair: bool = False) -> CnnStudent:
    return make_student(pair, halvings=1)


def make_streams_halved_twice(pair: bool = False) -> CnnStudent:
    return make_student(pair, "streams", halvings=2)


def masked(x: torch.Tensor, lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    mask = (torch.arange(x.shape[2])[None, :] < torch.tensor(lengths)[:, None]).float()[:, None]
    return x * mask, mask


@pytest.mark.parametrize("name", OPERATIONS)
def test_padding_never_reaches_a_real_token(name: str) -> None:
    torch.manual_seed(1)
    operation = build_operation(name, 8).eval()  # type: ignore[arg-type]
    x, mask = masked(torch.randn(1, 8, 6), [6])
    padded, padded_mask = masked(torch.cat([x, torch.randn(1, 8, 5)], dim=2), [6])
    torch.testing.assert_close(operation(padded, padded_mask)[:, :, :6], operation(x, mask))


def test_average_pooling_counts_real_tokens_only() -> None:
    x, mask = masked(torch.tensor([[[3.0, 6.0, 9.0, 9.0]]]), [3])
    pooled = build_operation("avg_pool3", 1)(x, mask)
    assert pooled[0, 0, :3].tolist() == [4.5, 6.0, 7.5]


def make_bilstm(pair: bool = False) -> BiLstmStudent:
    torch.manual_seed(0)
    return BiLstmStudent(BiLstmConfig(vocab_size=50, width=16, hidden=12, pair=pair, num_labels=3)).eval()


STUDENTS = [make_student, make_together, make_streams, make_halved, make_streams_halved_twice, make_bilstm]


@pytest.mark.parametrize("make", STUDENTS)
@pytest.mark.parametrize("pair", [False, True])
def test_a_text_gets_the_same_logits_alone_and_padded_in_a_batch(
    make: Callable[[bool], PreTrainedModel], pair: bool
) -> None:
    student = make(pair)
    ids, types = torch.randint(1, 50, (1, 7)), torch.tensor([[0, 0, 0, 1, 1, 1, 1]])
    other = torch.randint(1, 50, (1, 15))
    batch_ids = torch.cat([torch.cat([ids, torch.zeros(1, 8).long()], dim=1), other])
    mask = torch.ones(2, 15).long()
    mask[0, 7:] = 0
    batch_types = torch.zeros(2, 15).long()
    batch_types[0, :7] = types
    alone = student(ids, token_type_ids=types).logits
    together = student(batch_ids, mask, batch_types).logits[:1]
    torch.testing.assert_close(alone, together, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("make", STUDENTS)
def test_a_pair_student_tells_its_texts_apart_and_needs_the_types(make: Callable[[bool], PreTrainedModel]) -> None:
    student = make(True)
    ids = torch.randint(1, 50, (1, 8))
    types = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1]])
    assert not torch.allclose(student(ids, token_type_ids=types).logits, student(ids, token_type_ids=1 - types).logits)
    with pytest.raises(ValueError, match="token_type_ids"):
        student(ids)


def test_a_halved_cell_sees_every_token_at_half_of_the_positions() -> None:
    downsampling = Downsampling(8, 2).eval()
    mask = torch.tensor([[[1.0, 1, 1, 1, 1, 1, 1, 0]]])
    x = torch.randn(1, 8, 8) * mask
    half = halved(mask)
    assert half.flatten().tolist() == [1, 1, 1, 1]
    first, second = downsampling(x, x, half)
    assert first is second
    assert first.shape == (1, 8, 4)
    for token in range(7):
        changed = x.clone()
        changed[:, :, token] += 1
        assert not torch.equal(downsampling(x, changed, half)[1], second)
    two = Downsampling(8, 1, inputs=2).eval()
    of_one, of_other = two(x, x * 2, half)
    torch.testing.assert_close(of_one, two.convolutions[0](x, None) * half)
    torch.testing.assert_close(of_other, two.convolutions[1](x * 2, None) * half)


def test_halvings_end_with_the_cells() -> None:
    assert [len(make_student(halvings=halvings).downsampling) for halvings in (0, 1, 2, 5)] == [0, 1, 2, 2]


def test_two_streams_begin_together_and_meet_in_the_cell() -> None:
    texts = [torch.tensor([[[1.0, 1, 0, 0, 0, 1, 0]]]), torch.tensor([[[0.0, 0, 1, 1, 1, 0, 0]]])]
    embedded = torch.arange(1.0, 8.0).view(1, 1, 7) * sum(texts)
    inputs = two_streams(embedded, sum(texts), texts)  # type: ignore[arg-type]
    assert inputs.first.flatten().tolist() == [1, 2, 0, 0, 0, 6, 0]
    assert inputs.second.flatten().tolist() == [3, 4, 5, 0, 0, 0, 0]
    assert inputs.mask.flatten().tolist() == [1, 1, 1, 0, 0, 1, 0]
    assert inputs.embedded.flatten().tolist() == [4, 6, 5, 0, 0, 6, 0]
    alone = two_streams(embedded, texts[0], [texts[0], texts[1] * 0])  # no second text
    assert not alone.second.any()


def test_a_token_is_matched_with_its_like_in_the_other_text_only() -> None:
    # Tokens a b | a c, then padding; a, b and c are orthogonal.
    tokens = torch.eye(3)[[0, 1, 0, 2, 0]].T[None] * torch.tensor([1.0, 1, 1, 1, 0])
    texts = [torch.tensor([[[1.0, 1, 0, 0, 0]]]), torch.tensor([[[0.0, 0, 1, 1, 0]]])]
    alignment = Alignment(3)
    with torch.no_grad():
        alignment.log_sharpness.fill_(torch.tensor(9.0).log())
    match = alignment.match(tokens, texts)[0].T
    like = torch.tensor(9.0).exp() / (torch.tensor(9.0).exp() + 1)  # softmax of cosines 1 and 0, nine times sharpened
    expected = torch.tensor([[like, 0, 1 - like], [0.5, 0, 0.5], [like, 1 - like, 0], [0.5, 0.5, 0], [0, 0, 0]])
    torch.testing.assert_close(match, expected)
    alone = alignment.match(tokens, [texts[0] + texts[1], texts[1] * 0])  # no second text
    assert not alone.any()


def test_saves_and_loads_like_any_model(tmp_path: Path) -> None:
    student = make_student()
    student.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    ids = torch.randint(0, 50, (3, 9))
    assert isinstance(loaded, CnnStudent)
    assert torch.equal(loaded(ids).logits, student(ids).logits)
    assert torch.isclose(
        loaded(ids, labels=torch.tensor([0, 1, 2])).loss,
        torch.nn.functional.cross_entropy(student(ids).logits, torch.tensor([0, 1, 2])),
    )


def test_saved_checkpoints_keep_their_parameter_names() -> None:
    edges = (Edge(source=0, operation="conv3"), Edge(source=1, operation="identity"))
    genotype = Genotype(cells=1, nodes=(edges, edges[1:], edges[1:])).model_dump(mode="json")
    student = CnnStudent(CnnStudentConfig(vocab_size=50, width=16, genotype=genotype, pair=True, pair_inputs="aligned"))
    assert {name for name, _ in student.named_parameters()} == {
        "embeddings.table.weight",
        "entrance.alignment.log_sharpness",
        "entrance.alignment.compare.conv.weight",
        "entrance.alignment.compare.norm.weight",
        "entrance.alignment.compare.norm.bias",
        "cells.0.node_weights",
        "cells.0.operations.0.conv.weight",
        "cells.0.operations.0.norm.weight",
        "cells.0.operations.0.norm.bias",
        "readouts.0.state_weights",
        "readouts.0.classifier.weight",
        "readouts.0.classifier.bias",
    }


def test_folding_batch_normalisation_changes_no_logit() -> None:
    student = make_student()
    ids = torch.randint(0, 50, (3, 9))
    before = student(ids).logits
    student.fold()
    assert not any(isinstance(module, torch.nn.BatchNorm1d) for module in student.modules())
    torch.testing.assert_close(student(ids).logits, before, atol=1e-5, rtol=1e-4)


def test_one_readout_a_cell_and_the_last_is_the_answer() -> None:
    student = make_student()
    ids = torch.randint(0, 50, (3, 9))
    per_cell = student.logits_per_cell(ids, torch.ones_like(ids))
    assert len(per_cell) == GENOTYPE.cells
    assert torch.equal(per_cell[-1], student(ids).logits)
    assert len(GENOTYPE.nodes) == NODES


def test_a_bilstm_reads_each_direction_to_its_own_end() -> None:
    student = make_bilstm()
    ids = torch.randint(1, 50, (1, 6))
    embedded = student.embeddings(ids)
    _, (onward, _) = student.forwards(embedded)
    _, (backward, _) = student.backwards(embedded.flip(1))
    read = student._last_states(embedded, torch.tensor([0]), torch.tensor([6]))
    torch.testing.assert_close(read, torch.cat([onward[0], backward[0]], dim=1))


def test_a_bilstm_for_pairs_reads_each_text_by_itself() -> None:
    student = make_bilstm(pair=True)
    embedded = student.embeddings(torch.randint(1, 50, (2, 9)))
    apart = student._last_states(embedded[:1, 4:7], torch.tensor([0]), torch.tensor([3]))
    within = student._last_states(
        embedded, torch.tensor([4, 2]), torch.tensor([3, 0])
    )  # the second row has no second text
    torch.testing.assert_close(within[:1], apart)
    assert torch.isfinite(within).all()


def teacher(kind: str = "bert") -> PreTrainedModel:
    torch.manual_seed(3)
    if kind == "distilbert":
        return DistilBertForSequenceClassification(
            DistilBertConfig(vocab_size=50, dim=16, n_layers=6, n_heads=2, hidden_dim=32, max_position_embeddings=32)
        ).eval()
    config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=6, num_attention_heads=2, intermediate_size=32)
    return BertForSequenceClassification(config).eval()


def test_which_layers_are_copied() -> None:
    assert copied_layers(TransformerOptions(layers=3), 6) == [2, 4, 6]
    assert copied_layers(TransformerOptions(layers=3, copied="first"), 6) == [1, 2, 3]
    assert copied_layers(TransformerOptions(layers=3, copied="last"), 6) == [4, 5, 6]
    assert copied_layers(TransformerOptions(layers=2, copied=[1, 6]), 6) == [1, 6]
    with pytest.raises(UserError, match="8 to copy, but the model has 6"):
        copied_layers(TransformerOptions(layers=8), 6)
    with pytest.raises(UserError, match="layer 7, but the model has 6"):
        copied_layers(TransformerOptions(layers=2, copied=[1, 7]), 6)


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_a_copied_student_is_the_teacher_without_the_layers_between(kind: str) -> None:
    fine_tuned, pretrained = teacher(kind), teacher(kind)
    with torch.no_grad():
        for parameter in fine_tuned.parameters():
            parameter.add_(0.1)
    labels = ["a", "b"]
    all_layers = TransformerOptions(init="teacher", layers=6)
    ids = torch.randint(0, 50, (2, 7))
    whole = make_transformer(all_layers, fine_tuned, pretrained, labels, 0).eval()
    torch.testing.assert_close(whole(ids).logits, fine_tuned(ids).logits)
    student = make_transformer(TransformerOptions(init="pretrained", layers=2), fine_tuned, pretrained, labels, 0)
    own, source = student.state_dict(), pretrained.state_dict()
    stack = "bert.encoder.layer" if kind == "bert" else "distilbert.transformer.layer"
    for name, value in own.items():
        numbered = name.replace(f"{stack}.0.", f"{stack}.2.").replace(f"{stack}.1.", f"{stack}.5.")
        assert torch.equal(value, source[numbered]), name
    assert student.config.num_hidden_layers == 2
    assert student.config.id2label == {0: "a", 1: "b"}


def test_a_random_student_has_its_own_size_and_its_seed() -> None:
    options = TransformerOptions(init="random", layers=2, width=24, heads=3, intermediate=40)
    first, again, other = (make_transformer(options, teacher(), teacher(), ["a", "b"], seed) for seed in (0, 0, 1))
    assert first.config.hidden_size == 24
    assert first.config.vocab_size == 50
    name = "bert.encoder.layer.1.output.dense.weight"
    assert first.state_dict()[name].shape == (24, 40)
    assert torch.equal(first.state_dict()[name], again.state_dict()[name])
    assert not torch.equal(first.state_dict()[name], other.state_dict()[name])


def test_a_model_that_reads_other_tokens_is_refused(tmp_path: Path) -> None:
    directory = tiny_teacher(tmp_path / "bert")
    own = AutoModelForSequenceClassification.from_pretrained(directory)
    student = make_transformer(TransformerOptions(init=str(directory)), own, own, ["a", "b"], 0)
    assert torch.equal(student.bert.pooler.dense.weight, own.bert.pooler.dense.weight)
    vocabulary = directory / "tokenizer.json"
    other = tiny_teacher(tmp_path / "other")
    (other / "tokenizer.json").write_text(vocabulary.read_text().replace('"film":', '"movie":'))
    with pytest.raises(UserError, match="another vocabulary"):
        make_transformer(TransformerOptions(init=str(other)), own, own, ["a", "b"], 0)
    with pytest.raises(UserError, match="cannot be loaded"):
        make_transformer(TransformerOptions(init=str(tmp_path / "absent")), own, own, ["a", "b"], 0)


def test_a_checkpoint_in_half_precision_is_trained_in_full(tmp_path: Path) -> None:
    directory = tiny_teacher(tmp_path / "bert")
    AutoModelForSequenceClassification.from_pretrained(directory).half().save_pretrained(directory)
    recipe = recipe_from({"name": "t", "teacher": {"model": str(directory)}}, "test")
    teacher, _ = load_classifier(recipe, ["a", "b"])
    student = make_transformer(TransformerOptions(init=str(directory)), teacher, teacher, ["a", "b"], 0)
    for model in (teacher, student):
        assert {weight.dtype for weight in model.parameters()} == {torch.float32}
