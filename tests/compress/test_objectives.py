"""Every loss against a slow, obvious reference in float64, and against numbers worked by hand."""

import math

import pytest
import torch
from torch import Tensor
from transformers import BertConfig, BertForSequenceClassification

from compress.data.batches import Batch, SoftTargets
from compress.distil.check import check_objective
from compress.distil.forward_recorder import ForwardRecorder
from compress.distil.learner import make_learner
from compress.distil.phases import make_phases
from compress.objectives.layerwise import (
    attention_error,
    cosine_distance,
    patient_layers,
    patient_loss,
    state_error,
)
from compress.objectives.logits import cross_entropy, logit_error, soft_cross_entropy, soft_labels
from compress.objectives.relation import attention_relation, value_relation
from compress.recipe import recipe_from
from compress.recipe.sections import FeatureObjective
from compress.runtime.errors import UserError
from tests.tiny_task import own_hooks

LENGTHS = [5, 3, 1]


def mask() -> Tensor:
    return (torch.arange(5)[None] < torch.tensor(LENGTHS)[:, None]).float()


def softmax(row: list[float]) -> list[float]:
    total = sum(math.exp(x) for x in row)
    return [math.exp(x) / total for x in row]


def divergence(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def test_soft_labels_by_hand() -> None:
    # Teacher (0, ln 9) at τ = 2 is (1/4, 3/4); student (0, 0) is (1/2, 1/2). KL = ln 2 − H(1/4) = 0.1308; times τ² = 4.
    teacher, student = torch.tensor([[0.0, math.log(9)]]), torch.zeros(1, 2)
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert soft_labels(student, teacher, 2.0).item() == pytest.approx(4 * (math.log(2) - entropy), rel=1e-5)
    # The cross-entropy has neither the entropy nor τ².
    assert soft_cross_entropy(student, teacher, 2.0).item() == pytest.approx(math.log(2), rel=1e-5)
    assert logit_error(student, teacher).item() == pytest.approx(math.log(9) ** 2 / 2, rel=1e-5)
    assert cross_entropy(student, torch.tensor([1])).item() == pytest.approx(math.log(2), rel=1e-5)


def test_soft_labels_against_the_reference() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    for row, value in enumerate(soft_labels(student, teacher, 3.0)):
        p, q = (softmax((z[row] / 3).tolist()) for z in (teacher, student))
        assert value.item() == pytest.approx(9 * divergence(p, q), rel=1e-4)


def test_states_and_attention_errors_against_the_reference() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(3, 5, 4, dtype=torch.float64), torch.randn(3, 5, 4, dtype=torch.float64)
    for row, (value, cosine) in enumerate(zip(state_error(a, b, mask()), cosine_distance(a, b, mask()), strict=True)):
        errors, distances = [], []
        for i in range(LENGTHS[row]):
            x, y = a[row, i].tolist(), b[row, i].tolist()
            errors += [(p - q) ** 2 for p, q in zip(x, y, strict=True)]
            product = sum(p * q for p, q in zip(x, y, strict=True))
            distances.append(1 - product / math.hypot(*x) / math.hypot(*y))
        assert value.item() == pytest.approx(sum(errors) / len(errors), rel=1e-5)
        assert cosine.item() == pytest.approx(sum(distances) / len(distances), rel=1e-5)
    a, b = torch.randn(3, 2, 5, 5, dtype=torch.float64), torch.randn(3, 2, 5, 5, dtype=torch.float64)
    for row, value in enumerate(attention_error(a, b, mask())):
        real = range(LENGTHS[row])
        errors = [float(a[row, h, i, j] - b[row, h, i, j]) ** 2 for h in range(2) for i in real for j in real]
        assert value.item() == pytest.approx(sum(errors) / len(errors), rel=1e-5)


def test_relations_against_the_reference_and_for_heads_of_unequal_size() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(3, 2, 5, 5, dtype=torch.float64), torch.randn(3, 2, 5, 5, dtype=torch.float64)
    values_a, values_b = torch.randn(3, 2, 5, 3, dtype=torch.float64), torch.randn(3, 2, 5, 6, dtype=torch.float64)
    attention, value = attention_relation(a, b, mask()), value_relation(values_a, values_b, mask())
    for row, length in enumerate(LENGTHS):
        expected, relations = [], []
        for h in range(2):
            for i in range(length):
                p, q = (softmax([float(z[row, h, i, j]) for j in range(length)]) for z in (b, a))
                expected.append(divergence(p, q))
                rows = []
                for z in (values_b, values_a):
                    scale = math.sqrt(z.shape[-1])
                    rows.append(softmax([float(z[row, h, i] @ z[row, h, j]) / scale for j in range(length)]))
                relations.append(divergence(*rows))
        assert attention[row].item() == pytest.approx(sum(expected) / len(expected), rel=1e-4, abs=1e-7)
        assert value[row].item() == pytest.approx(sum(relations) / len(relations), rel=1e-4, abs=1e-7)


def test_patience_by_hand() -> None:
    # Directions (3, 4)/5 and (1, 0): squared distance 0.16 + 0.64, over two components.
    student, teacher = [torch.tensor([[3.0, 4.0]])], [torch.tensor([[2.0, 0.0]])]
    assert patient_loss(student, teacher).item() == pytest.approx(0.4)
    # Scale is not compared, and layers are averaged.
    both = patient_loss([*student, torch.tensor([[10.0, 0.0]])], [*teacher, torch.tensor([[0.1, 0.0]])])
    assert both.item() == pytest.approx(0.2)


def test_patient_layers_are_the_papers() -> None:
    assert patient_layers(6, 12, "skip") == [2, 4, 6, 8, 10]
    assert patient_layers(6, 12, "last") == [7, 8, 9, 10, 11]
    assert patient_layers(3, 6, "skip") == [2, 4]
    assert patient_layers(3, 6, "last") == [4, 5]


def bert(layers: int, width: int = 16, heads: int = 2) -> BertForSequenceClassification:
    torch.manual_seed(layers)
    config = BertConfig(
        vocab_size=40,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=2 * width,
        max_position_embeddings=16,
        num_labels=3,
    )
    return BertForSequenceClassification(config).eval()


def batch() -> Batch:
    torch.manual_seed(7)
    real = (torch.arange(6)[None] < torch.tensor([6, 4, 2])[:, None]).long()
    return Batch(
        input_ids=torch.randint(1, 40, (3, 6)) * real,
        attention_mask=real,
        type_ids=torch.zeros(3, 6).long(),
        segments=torch.zeros(3, 6).long(),
        labels=torch.tensor([0, 1, 2]),
        index=torch.arange(3),
        teacher=SoftTargets(torch.randn(3, 3)),
    )


def inputs() -> dict[str, Tensor]:
    return {"input_ids": batch().input_ids, "attention_mask": batch().attention_mask}


def test_the_recorded_scores_are_those_that_the_model_attends_with() -> None:
    model = bert(2)
    model.set_attn_implementation("eager")
    with ForwardRecorder(model, attention=True) as recorder, torch.no_grad():
        assert own_hooks(model)
        outputs = recorder(batch())
        out = model(**inputs(), output_attentions=True)
    padding = (batch().attention_mask == 0)[:, None, None, :]
    for layer in range(2):
        seen = torch.softmax(outputs.attention_scores(layer).masked_fill(padding, -torch.inf), dim=-1)
        torch.testing.assert_close(seen, out.attentions[layer], atol=1e-6, rtol=1e-5)
    assert not own_hooks(model)  # nothing is left behind


def objective(method: str) -> dict[str, object]:
    recipe = recipe_from({"name": "t", "objective": {"method": method}, "student": {"kind": "transformer"}}, "test")
    return {"options": recipe.objective, "training": recipe.compress}


METHODS = ["none", "logits", "mse", "distilbert", "pkd", "tinybert", "minilm"]


@pytest.mark.parametrize("method", METHODS)
def test_gradients_reach_the_student_only_and_a_perfect_student_has_nothing_to_learn(method: str) -> None:
    teacher, given = bert(4), objective(method)
    width = 24 if method == "tinybert" else 16  # with learned projections
    student = bert(2, width)
    learner = make_learner(given["options"], student, teacher.config)  # type: ignore[arg-type]
    attention = method in ("tinybert", "minilm")
    with ForwardRecorder(teacher, attention=attention) as t, ForwardRecorder(student, attention=attention) as s:
        phases = make_phases(learner=learner, teacher=t, student=s, **given)  # type: ignore[arg-type]
        assert len(phases) == (2 if attention else 1)
        for phase in phases:
            losses = phase.loss(batch())
            assert losses.shape == (3,)
            losses.sum().backward()
    assert all(p.grad is None for p in teacher.parameters())
    reached = {name for name, p in learner.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert "student.bert.embeddings.word_embeddings.weight" in reached
    assert all(f"projections.{name}.weight" in reached for name in learner.projections)
    if isinstance(given["options"], FeatureObjective) and method != "pkd":
        same = make_learner(given["options"], teacher, teacher.config)  # type: ignore[arg-type]
        with ForwardRecorder(teacher, attention=attention) as t, torch.no_grad():
            first = make_phases(learner=same, teacher=t, student=t, **given)[0]  # type: ignore[arg-type]
            at_rest = first.loss(batch())
        floor = (
            2 / 8 * cross_entropy(teacher_logits(teacher), batch().labels) if method == "distilbert" else 0 * at_rest
        )
        torch.testing.assert_close(at_rest, floor.detach(), atol=1e-5, rtol=1e-4)


def teacher_logits(teacher: BertForSequenceClassification) -> Tensor:
    return teacher(**inputs()).logits


@pytest.mark.parametrize("method", METHODS)
def test_padding_changes_no_loss(method: str) -> None:
    teacher, student, given = bert(4), bert(2), objective(method)
    learner = make_learner(given["options"], student, teacher.config)  # type: ignore[arg-type]
    padded = batch().map(lambda value: torch.nn.functional.pad(value, (0, 5)) if value.shape == (3, 6) else value)
    attention = method in ("tinybert", "minilm")
    with (
        ForwardRecorder(teacher, attention=attention) as t,
        ForwardRecorder(student, attention=attention) as s,
        torch.no_grad(),
    ):
        for phase in make_phases(learner=learner, teacher=t, student=s, **given):  # type: ignore[arg-type]
            torch.testing.assert_close(phase.loss(padded), phase.loss(batch()), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("method", "student", "reason"),
    [
        ("pkd", {"width": 24}, "24 wide and the teacher 16"),
        ("distilbert", {"width": 24}, "24 wide and the teacher 16"),
        ("tinybert", {"heads": 4}, "4 heads and the teacher 2"),
        ("minilm", {"heads": 4}, "4 heads and the teacher 2"),
        ("pkd", {"layers": 1}, "has only one"),
        ("tinybert", {"layers": 5}, "has 5 and the teacher only 4"),
    ],
)
def test_a_student_that_an_objective_cannot_teach_is_refused(method: str, student: dict[str, int], reason: str) -> None:
    config = bert(**{"layers": 2, **student}).config
    with pytest.raises(UserError, match=reason):
        check_objective(objective(method)["options"], config, bert(4).config)  # type: ignore[arg-type]
