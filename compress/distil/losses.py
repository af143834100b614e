"""The loss of each objective as a function of a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import assert_never

import torch
from torch import Tensor
from transformers import PreTrainedModel

from compress.data.batches import Batch
from compress.distil.forward_recorder import ForwardOutputs, ForwardRecorder
from compress.distil.learner import Learner
from compress.objectives.expertise import weighted
from compress.objectives.layerwise import (
    attention_error,
    cosine_distance,
    matched_layers,
    patient_layers,
    patient_loss,
    state_error,
)
from compress.objectives.logits import cross_entropy, logit_error, soft_cross_entropy, soft_labels
from compress.objectives.probes import adabert_loss
from compress.objectives.relation import attention_relation, value_relation
from compress.recipe.sections import (
    DistilBertObjective,
    LogitsObjective,
    MseObjective,
    NoObjective,
    ObjectiveOptions,
    PkdObjective,
    ProbesObjective,
    TwoStageObjective,
)
from compress.training.evaluation import compute_logits, model_inputs

BatchLoss = Callable[[Batch], Tensor]  # a batch with the teacher's outputs → the loss of each example (B,)
# The outputs of student and teacher, the mask of real tokens (B, L) and the labels (B,) → the loss of each example (B,).
Comparison = Callable[[ForwardOutputs, ForwardOutputs, Tensor, Tensor], Tensor]


def prediction_loss(options: ObjectiveOptions, learner: Learner) -> BatchLoss:
    """The loss that compares predictions only. The weights of the examples are not applied.

    Each member of an ensemble learns on its own, as if trained alone: the loss is the mean of the members' losses.
    """
    of_member = _loss_of_member(options)

    def loss(batch: Batch) -> Tensor:
        members = _logits_of_members(learner.student, batch)
        return torch.stack([of_member(per_cell, batch) for per_cell in members]).mean(dim=0)

    return loss


def _logits_of_members(student: PreTrainedModel, batch: Batch) -> list[list[Tensor]]:
    """For each member of an ensemble its logits (B, C) after each cell. Any other student is one member of one cell."""
    of_members = getattr(student, "logits_of_members", None)  # a cnn has it
    if of_members is not None:
        return of_members(**model_inputs(student, batch))
    return [[compute_logits(student, batch)]]


def _loss_of_member(options: ObjectiveOptions) -> Callable[[Sequence[Tensor], Batch], Tensor]:
    """The loss (B,) of a student's logits (B, C) after each of its cells. Only the probes compare all cells, not the last."""
    match options:
        case ProbesObjective():
            return lambda cells, batch: adabert_loss(
                cells, batch.teacher_probes, batch.labels, options.gamma, options.tau
            )

        case LogitsObjective():

            def loss(cells: Sequence[Tensor], batch: Batch) -> Tensor:
                soft = soft_labels(cells[-1], batch.teacher_logits, options.temperature)
                return (1 - options.alpha) * cross_entropy(cells[-1], batch.labels) + options.alpha * soft

        case MseObjective():

            def loss(cells: Sequence[Tensor], batch: Batch) -> Tensor:
                error = logit_error(cells[-1], batch.teacher_logits)
                return (1 - options.alpha) * cross_entropy(cells[-1], batch.labels) + options.alpha * error

        case TwoStageObjective():
            return lambda cells, batch: soft_cross_entropy(cells[-1], batch.teacher_logits, options.temperature)

        case NoObjective() | DistilBertObjective() | PkdObjective():  # of the last two, `FeatureLosses` has the rest
            return lambda cells, batch: cross_entropy(cells[-1], batch.labels)

        case _:
            assert_never(options)

    return loss


@dataclass(frozen=True)
class FeatureLosses:
    """Losses that compare hidden states or attention of student and teacher on the same batch."""

    student: ForwardRecorder
    teacher: ForwardRecorder  # frozen
    learner: Learner

    def loss(self, compare: Comparison) -> BatchLoss:
        """A comparison, weighted by example, plus the transfer loss of a meta-teacher if there is one.

        The weights do not scale the transfer loss.
        """

        def loss(batch: Batch) -> Tensor:
            student = self.student(batch)
            with torch.no_grad():
                teacher = self.teacher(batch)
            mask = batch.attention_mask.float()
            compared = weighted(compare(student, teacher, mask, batch.labels), batch.weights)
            if self.learner.transfer is None:
                return compared
            last_states = student.hidden_states[-1], teacher.hidden_states[-1]
            return compared + self.learner.transfer(*last_states, mask, batch.domain_numbers)

        return loss

    @property
    def layers(self) -> tuple[int, int]:
        """Number of layers of student and teacher."""
        return self.student.model.config.num_hidden_layers, self.teacher.model.config.num_hidden_layers

    def tinybert(self, student: ForwardOutputs, teacher: ForwardOutputs, mask: Tensor, labels: Tensor) -> Tensor:
        """Embeddings + Σ over layers of hidden states and attention scores (arXiv 1909.10351, Eq. 11)."""
        embeddings = self.learner.projected("embeddings", student.hidden_states[0])
        total = state_error(embeddings, teacher.hidden_states[0], mask)
        for layer, matched in enumerate(matched_layers(*self.layers), start=1):
            hidden = self.learner.projected("hidden", student.hidden_states[layer])
            total = total + state_error(hidden, teacher.hidden_states[matched], mask)
            scores = student.attention_scores(layer - 1), teacher.attention_scores(matched - 1)
            total = total + attention_error(*scores, mask)
        return total

    def minilm(self, student: ForwardOutputs, teacher: ForwardOutputs, mask: Tensor, labels: Tensor) -> Tensor:
        """Attention and value relations of the last layers (arXiv 2002.10957, Eq. 9)."""
        attention = attention_relation(student.attention_scores(-1), teacher.attention_scores(-1), mask)
        return attention + value_relation(student.values[-1], teacher.values[-1], mask)

    def distilbert(self, options: DistilBertObjective) -> Comparison:
        """The triple loss (arXiv 1910.01108, §3). The labels take the place of the masked words."""

        def loss(student: ForwardOutputs, teacher: ForwardOutputs, mask: Tensor, labels: Tensor) -> Tensor:
            soft = soft_labels(student.logits, teacher.logits, options.temperature)
            hard = cross_entropy(student.logits, labels)
            cosine = cosine_distance(student.hidden_states[-1], teacher.hidden_states[-1], mask)
            total = options.soft * soft + options.hard * hard + options.cosine * cosine
            return total / (options.soft + options.hard + options.cosine)

        return loss

    def pkd(self, options: PkdObjective) -> Comparison:
        """(1 − α)·CE + α·soft labels + β·patient loss (arXiv 1908.09355, Eq. 8)."""
        matched = patient_layers(*self.layers, options.layers)

        def loss(student: ForwardOutputs, teacher: ForwardOutputs, mask: Tensor, labels: Tensor) -> Tensor:
            soft = soft_labels(student.logits, teacher.logits, options.temperature)
            hard = cross_entropy(student.logits, labels)
            patient = patient_loss(
                [student.hidden_states[i][:, 0] for i in range(1, len(matched) + 1)],
                [teacher.hidden_states[j][:, 0] for j in matched],
            )
            return (1 - options.alpha) * hard + options.alpha * soft + options.beta * patient

        return loss
