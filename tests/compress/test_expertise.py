"""Meta-KD's scores and weights against numbers worked by hand; the weight is that of the example and of no other."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from compress.data.batches import Batch
from compress.distil.forward_recorder import ForwardRecorder
from compress.distil.learner import make_learner
from compress.distil.phases import Phase, make_phases
from compress.distil.transfer import TransferLoss
from compress.objectives.expertise import expertise_weights, mean_state, prototype_scores, prototypes, weighted
from compress.students import BiLstmConfig, BiLstmStudent
from compress.teachers.domain_representation import DomainRepresentation
from tests.compress.test_objectives import batch, bert, objective

# Two domains, two classes; the second domain has no example of the second class.
FEATURES = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 2.0]])
DOMAINS = torch.tensor([0, 0, 1, 0])
LABELS = torch.tensor([0, 0, 0, 1])
DIAGONAL = math.sqrt(0.5)  # cosine of 45 degrees


def test_a_prototype_is_the_mean_of_a_class_in_a_domain() -> None:
    means = prototypes(FEATURES, DOMAINS, LABELS, (2, 2))
    assert means.tolist() == [[[0.5, 0.5], [0.0, 2.0]], [[1.0, 0.0], [0.0, 0.0]]]


def test_prototype_scores_by_hand() -> None:
    means = prototypes(FEATURES, DOMAINS, LABELS, (2, 2))
    # Own half, other half. The last example has no like in another domain: its own half stands for both.
    expected = [0.5 * DIAGONAL + 0.5 * 1, 0.5 * DIAGONAL + 0.5 * 0, 0.5 * 1 + 0.5 * DIAGONAL, 1.0]
    torch.testing.assert_close(prototype_scores(FEATURES, DOMAINS, LABELS, means), torch.tensor(expected))


def test_an_unknown_domain_is_scored_by_those_that_are_known() -> None:
    means = prototypes(FEATURES, DOMAINS, LABELS, (2, 2))
    score = prototype_scores(FEATURES[:1], torch.tensor([-1]), LABELS[:1], means)
    torch.testing.assert_close(score, torch.tensor([(DIAGONAL + 1) / 2]))


def test_a_single_domain_is_scored_by_itself() -> None:
    means = prototypes(FEATURES[:2], DOMAINS[:2], LABELS[:2], (1, 2))
    scores = prototype_scores(FEATURES[:2], DOMAINS[:2], LABELS[:2], means)
    torch.testing.assert_close(scores, torch.tensor([DIAGONAL, DIAGONAL]))


def test_three_domains_share_the_other_half() -> None:
    means = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[1.0, 1.0]]])  # one class
    score = prototype_scores(torch.tensor([[1.0, 0.0]]), torch.tensor([0]), torch.tensor([0]), means)
    torch.testing.assert_close(score, torch.tensor([0.5 * 1 + 0.5 * (0 + DIAGONAL) / 2]))


def test_expertise_weights_by_hand() -> None:
    weights = expertise_weights(torch.tensor([1.0, 0.5, -1.0]), torch.tensor([1.0, 0.8, 1.0]))
    torch.testing.assert_close(weights, torch.tensor([1.0, 1.5 / (math.exp(0.04) + 1), 0.0]))


def test_padding_has_no_part_in_a_feature() -> None:
    states = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]]])
    assert mean_state(states, torch.tensor([[1.0, 1.0, 0.0]])).tolist() == [[2.0, 3.0]]


def test_an_unknown_domain_has_the_mean_embedding() -> None:
    representation = DomainRepresentation(2, 4)
    features, embeddings = torch.randn(1, 4), representation.domain.weight
    for number, embedding in ((1, embeddings[1]), (-1, (embeddings[0] + embeddings[1]) / 2)):
        expected = torch.tanh(representation.dense.weight @ (embedding + features[0]) + representation.dense.bias)
        torch.testing.assert_close(representation(features, torch.tensor([number]))[0], expected)


def weighted_batch(weights: list[float]) -> Batch:
    return replace(batch(), weights=torch.tensor(weights), domains=torch.tensor([0, 1, -1]))


def gradient(loss: Tensor, model: torch.nn.Module) -> Tensor:
    parameters = [p for p in model.parameters() if p.requires_grad]
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return torch.cat(
        [torch.zeros_like(p).flatten() if g is None else g.flatten() for g, p in zip(found, parameters, strict=True)]
    )


def check_weights(phase: Phase, model: torch.nn.Module) -> None:
    """A weight scales its own example's loss and gradient, and nothing else."""
    even, raised = phase.loss(weighted_batch([1, 1, 1])), phase.loss(weighted_batch([1, 4, 1]))
    torch.testing.assert_close(raised, even * torch.tensor([1.0, 4.0, 1.0]))
    difference = gradient(raised.mean(), model) - gradient(phase.loss(weighted_batch([1, 1, 1])).mean(), model)
    own = gradient(phase.loss(weighted_batch([1, 1, 1]))[1], model)
    assert own.abs().sum() > 0
    torch.testing.assert_close(difference, own * 3 / 3, atol=1e-5, rtol=1e-3)  # 3 more of one of three examples


@pytest.mark.parametrize("method", ["none", "logits", "mse", "distilbert", "pkd", "tinybert", "minilm"])
def test_the_weight_is_per_example(method: str) -> None:
    teacher, student, given = bert(4).eval(), bert(2).eval(), objective(method)
    learner = make_learner(given["options"], student, teacher.config)  # type: ignore[arg-type]
    attention = method in ("tinybert", "minilm")
    with ForwardRecorder(teacher, attention=attention) as t, ForwardRecorder(student, attention=attention) as s:
        for phase in make_phases(learner=learner, teacher=t, student=s, **given):  # type: ignore[arg-type]
            check_weights(phase, student)


def test_the_weight_is_per_example_for_a_bilstm() -> None:
    student = BiLstmStudent(BiLstmConfig(vocab_size=40, width=16, hidden=8, num_labels=3, pad_token_id=0)).eval()
    given = objective("logits")
    learner = make_learner(given["options"], student, bert(4).config)  # type: ignore[arg-type]
    (phase,) = make_phases(learner=learner, teacher=None, student=None, **given)  # type: ignore[arg-type]
    check_weights(phase, student)


def test_without_weights_a_loss_is_what_it_was() -> None:
    losses = torch.tensor([1.0, 2.0])
    assert weighted(losses, None) is losses


def test_the_transfer_loss_by_a_slow_reference_and_unweighted() -> None:
    teacher, student, given = bert(4).eval(), bert(2, 24).eval(), objective("tinybert")
    torch.manual_seed(0)
    transfer = TransferLoss(DomainRepresentation(2, 16), 24, weight=0.5)
    learner = make_learner(given["options"], student, teacher.config, transfer)  # type: ignore[arg-type]
    with ForwardRecorder(teacher, attention=True) as t, ForwardRecorder(student, attention=True) as s:
        inner, _ = make_phases(learner=learner, teacher=t, student=s, **given)  # type: ignore[arg-type]
        losses = inner.loss(weighted_batch([0, 0, 0]))  # what is left is the transfer loss
    expected = []
    for row, number in enumerate([0, 1, -1]):
        h = []
        for model, of in ((student, transfer.student), (teacher, transfer.teacher)):
            length = int(batch().attention_mask[row].sum())
            ids = batch().input_ids[row : row + 1, :length]
            inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            state = model(**inputs, output_hidden_states=True).hidden_states[-1][0].mean(dim=0)
            table = of.domain.weight
            embedding = table.mean(dim=0) if number < 0 else table[number]
            h.append(torch.tanh(of.dense.weight @ (embedding + state) + of.dense.bias))
        mapped = transfer.project.weight @ h[0] + transfer.project.bias
        expected.append(0.5 * ((mapped - h[1]) ** 2).mean())
    torch.testing.assert_close(losses, torch.stack(expected), atol=1e-5, rtol=1e-4)
    losses.sum().backward()
    assert all(p.grad is None for p in transfer.teacher.parameters())
    assert transfer.project.weight.grad is not None
    assert transfer.student.dense.weight.grad is not None


def test_a_student_of_the_teachers_width_starts_from_its_domains() -> None:
    teacher = DomainRepresentation(3, 16)
    assert torch.equal(TransferLoss(teacher, 16, 0.5).student.domain.weight, teacher.domain.weight)
