"""From an objective's options to what a student is trained on, phase by phase."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from compress.data.batches import Batch
from compress.distil.hidden_states import Observer, States, observe_frozen
from compress.distil.transfer import Transfer
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
    CompressOptions,
    DistilBertObjective,
    LogitsObjective,
    MiniLmObjective,
    MseObjective,
    ObjectiveOptions,
    PkdObjective,
    ProbesObjective,
    TinyBertObjective,
    TwoStageObjective,
)
from compress.runtime.errors import UserError
from compress.training.evaluation import compute_logits, model_inputs

PerExample = Callable[[Batch], Tensor]  # a batch with the teacher's outputs → losses (B,)
# The student's states, the teacher's, the mask of real tokens (B, L) and the labels (B,) → losses (B,).
Comparison = Callable[[States, States, Tensor, Tensor], Tensor]


class Learner(nn.Module):
    """What is trained: the student and what its losses learn besides.

    That is projections, where an objective compares states of unequal width, and a meta-teacher's transfer loss.
    """

    def __init__(
        self,
        student: PreTrainedModel,
        projections: dict[str, nn.Module] | None = None,
        transfer: Transfer | None = None,
    ) -> None:
        super().__init__()
        self.student = student
        self.projections = nn.ModuleDict(projections or {})
        self.transfer = transfer

    def projected(self, name: str, states: Tensor) -> Tensor:
        """States (B, L, d_S) in the teacher's width, (B, L, d_T)."""
        return self.projections[name](states) if name in self.projections else states


@dataclass(frozen=True)
class Phase:
    """One training of the learner."""

    name: str
    epochs: int
    learning_rate: float
    loss: PerExample
    predicts: bool  # learns to classify: judged on dev and stopped early; otherwise its last weights are kept
    rounded: bool = False  # with the rounding of INT8 in the student's forward pass, in which it is judged too


def looks_inside(
    options: ObjectiveOptions,
) -> TypeGuard[DistilBertObjective | PkdObjective | TinyBertObjective | MiniLmObjective]:
    """Whether the objective compares more than predictions, so that the teacher runs beside the student."""
    return isinstance(options, DistilBertObjective | PkdObjective | TinyBertObjective | MiniLmObjective)


def check_objective(options: ObjectiveOptions, student: PretrainedConfig, teacher: PretrainedConfig) -> None:
    """Refuse a student that this objective cannot teach.

    :raises UserError: unequal widths, head counts or vocabularies, or too few layers; the message says why.
    """
    if student.vocab_size != teacher.vocab_size:
        raise UserError(
            f"student.init: its vocabulary has {student.vocab_size} tokens, the teacher's {teacher.vocab_size}; "
            "a student reads the tokens of its teacher"
        )
    method = options.method
    if isinstance(options, DistilBertObjective | PkdObjective) and student.hidden_size != teacher.hidden_size:
        raise UserError(
            f"objective.method: {method!r} compares hidden states directly, but the student is {student.hidden_size} wide and "
            f"the teacher {teacher.hidden_size}; use tinybert, whose projections are learned, minilm or logits"
        )
    if isinstance(options, PkdObjective) and student.num_hidden_layers < 2:
        raise UserError("objective.method: 'pkd' matches the layers below the last, and the student has only one")
    if isinstance(options, TwoStageObjective) and student.num_attention_heads != teacher.num_attention_heads:
        raise UserError(
            f"objective.method: {method!r} compares attention head by head, but the student has {student.num_attention_heads} "
            f"heads and the teacher {teacher.num_attention_heads}; choose student.heads = {teacher.num_attention_heads} or logits"
        )
    if student.num_hidden_layers > teacher.num_hidden_layers and looks_inside(options):
        raise UserError(
            f"objective.method: {method!r} matches layers, but the student has {student.num_hidden_layers} and the teacher only "
            f"{teacher.num_hidden_layers}"
        )


def make_learner(
    options: ObjectiveOptions,
    student: PreTrainedModel,
    teacher: PretrainedConfig,
    transfer: Transfer | None = None,
) -> Learner:
    """The student with the projections that the objective needs, and with the transfer loss of a meta-teacher."""
    own = getattr(student.config, "hidden_size", teacher.hidden_size)
    projections: dict[str, nn.Module] = {}
    if isinstance(options, TinyBertObjective) and own != teacher.hidden_size:
        # One for the embeddings, one for all layers (TinyBERT, Eq. 8 and 9).
        projections = {name: nn.Linear(own, teacher.hidden_size, bias=False) for name in ("embeddings", "hidden")}
    return Learner(student, projections, transfer)


def and_rounded(phases: list[Phase], epochs: int) -> list[Phase]:
    """The phases, and then `epochs` of the last one once more, rounded; none if that is 0."""
    if not epochs:
        return phases
    last = phases[-1]
    rate = last.learning_rate / 10  # it only has to move by as much as the rounding does
    return [*phases, replace(last, name="student, rounded", epochs=epochs, learning_rate=rate, rounded=True)]


def plan(
    options: ObjectiveOptions,
    training: CompressOptions,
    learner: Learner,
    teacher: Observer | None,
    student: Observer | None,
) -> list[Phase]:
    """The phases of an objective, in order.

    Each example's loss is weighted by the meta-teacher's expertise, in the batch as `weight`, where there is one; its
    transfer loss, if any, is added to the phase that looks inside (arXiv 2012.01266, §3.3).

    :param teacher: the frozen teacher; both observers are needed if `looks_inside`.
    """
    predicted = _prediction_loss(options, learner)
    predicting = Phase(
        "student",
        training.epochs,
        training.learning_rate,
        lambda batch: weighted(predicted(batch), batch.weights),
        predicts=True,
    )
    if not looks_inside(options):
        return [predicting]
    assert teacher is not None, "an objective that looks inside needs the teacher"
    assert student is not None, "an objective that looks inside needs the student's states"
    both = _Pair(student, teacher, learner)
    if isinstance(options, TwoStageObjective):
        inner = both.tinybert if isinstance(options, TinyBertObjective) else both.minilm
        epochs, rate = options.intermediate_epochs, options.intermediate_learning_rate
        return [Phase("student, inner states", epochs, rate, both.loss(inner), predicts=False), predicting]
    combined = both.pkd(options) if isinstance(options, PkdObjective) else both.distilbert(options)
    return [Phase("student", training.epochs, training.learning_rate, both.loss(combined), predicts=True)]


def _prediction_loss(options: ObjectiveOptions, learner: Learner) -> PerExample:
    student: Any = learner.student
    match options:
        case ProbesObjective():

            def loss(batch: Batch) -> Tensor:
                logits = student.logits_per_cell(**model_inputs(student, batch))
                return adabert_loss(logits, batch.teacher_probes, batch.labels, options.gamma, options.tau)

        case LogitsObjective():

            def loss(batch: Batch) -> Tensor:
                logits = compute_logits(student, batch)
                soft = soft_labels(logits, batch.teacher_logits, options.temperature)
                return (1 - options.alpha) * cross_entropy(logits, batch.labels) + options.alpha * soft

        case MseObjective():

            def loss(batch: Batch) -> Tensor:
                logits = compute_logits(student, batch)
                error = logit_error(logits, batch.teacher_logits)
                return (1 - options.alpha) * cross_entropy(logits, batch.labels) + options.alpha * error

        case TwoStageObjective():

            def loss(batch: Batch) -> Tensor:
                return soft_cross_entropy(compute_logits(student, batch), batch.teacher_logits, options.temperature)

        case _:

            def loss(batch: Batch) -> Tensor:
                return cross_entropy(compute_logits(student, batch), batch.labels)

    return loss


@dataclass(frozen=True)
class _Pair:
    """Teacher and student on the same batch."""

    student: Observer
    teacher: Observer
    learner: Learner

    def loss(self, compare: Comparison) -> PerExample:
        """A comparison weighted by example, with the transfer loss added where there is one."""

        def loss(batch: Batch) -> Tensor:
            s, t, mask = self.student(batch), observe_frozen(self.teacher, batch), batch.attention_mask.float()
            compared = weighted(compare(s, t, mask, batch.labels), batch.weights)
            if self.learner.transfer is None:
                return compared
            return compared + self.learner.transfer(s.hidden[-1], t.hidden[-1], mask, batch.domain_numbers)

        return loss

    @property
    def layers(self) -> tuple[int, int]:
        """Number of layers of student and teacher."""
        return self.student.model.config.num_hidden_layers, self.teacher.model.config.num_hidden_layers

    def tinybert(self, s: States, t: States, mask: Tensor, _: Tensor) -> Tensor:
        """Embeddings + Σ over layers of hidden states and attention scores (arXiv 1909.10351, Eq. 11)."""
        total = state_error(self.learner.projected("embeddings", s.hidden[0]), t.hidden[0], mask)
        for layer, matched in enumerate(matched_layers(*self.layers), start=1):
            hidden = self.learner.projected("hidden", s.hidden[layer])
            total = total + state_error(hidden, t.hidden[matched], mask)
            total = total + attention_error(s.scores(layer - 1), t.scores(matched - 1), mask)
        return total

    def minilm(self, s: States, t: States, mask: Tensor, _: Tensor) -> Tensor:
        """Attention and value relations of the last layers (arXiv 2002.10957, Eq. 9)."""
        attention = attention_relation(s.scores(-1), t.scores(-1), mask)
        return attention + value_relation(s.values[-1], t.values[-1], mask)

    def distilbert(self, options: DistilBertObjective) -> Comparison:
        """The triple loss (arXiv 1910.01108, §3), the labels in the place of the masked words."""

        def loss(s: States, t: States, mask: Tensor, labels: Tensor) -> Tensor:
            soft = soft_labels(s.logits, t.logits, options.temperature)
            hard = cross_entropy(s.logits, labels)
            cosine = cosine_distance(s.hidden[-1], t.hidden[-1], mask)
            total = options.soft * soft + options.hard * hard + options.cosine * cosine
            return total / (options.soft + options.hard + options.cosine)

        return loss

    def pkd(self, options: PkdObjective) -> Comparison:
        """(1 − α)·CE + α·soft labels + β·patience (arXiv 1908.09355, Eq. 8)."""
        matched = patient_layers(*self.layers, options.layers)

        def loss(s: States, t: States, _: Tensor, labels: Tensor) -> Tensor:
            soft = soft_labels(s.logits, t.logits, options.temperature)
            hard = cross_entropy(s.logits, labels)
            patience = patient_loss(
                [s.hidden[i][:, 0] for i in range(1, len(matched) + 1)], [t.hidden[j][:, 0] for j in matched]
            )
            return (1 - options.alpha) * hard + options.alpha * soft + options.beta * patience

        return loss
