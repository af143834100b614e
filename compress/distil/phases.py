"""The phases of a student's training."""

from __future__ import annotations

from dataclasses import dataclass, replace

from compress.distil.forward_recorder import ForwardRecorder
from compress.distil.learner import Learner
from compress.distil.losses import BatchLoss, FeatureLosses, prediction_loss
from compress.objectives.expertise import weighted
from compress.recipe.sections import (
    CompressOptions,
    FeatureObjective,
    ObjectiveOptions,
    PkdObjective,
    TinyBertObjective,
    TwoStageObjective,
)


@dataclass(frozen=True)
class Phase:
    """One training of the learner."""

    name: str
    epochs: int | None  # None: as many steps as `steps` says
    learning_rate: float
    loss: BatchLoss
    predicts: (
        bool  # trains the classification head: evaluated on dev, with early stopping; else the last weights are kept
    )
    steps: int | None = None
    quantization_aware: bool = False  # the student's forward pass rounds as INT8 does, in training and in evaluation


def make_phases(
    options: ObjectiveOptions,
    training: CompressOptions,
    learner: Learner,
    teacher: ForwardRecorder | None,
    student: ForwardRecorder | None,
) -> list[Phase]:
    """The phases of an objective, in order.

    A meta-teacher weights the loss of each example by its expertise: `Batch.weights`. Its transfer loss, if any, is added
    in the phase that compares hidden states or attention (arXiv 2012.01266, §3.3).

    :param teacher: the frozen teacher. A `FeatureObjective` needs both recorders.
    """
    predicted = prediction_loss(options, learner)
    predicting = Phase(
        "student",
        training.epochs,
        training.learning_rate,
        lambda batch: weighted(predicted(batch), batch.weights),
        predicts=True,
        steps=training.steps,
    )
    if not isinstance(options, FeatureObjective):
        return [predicting]
    assert teacher is not None, "this objective needs the teacher's hidden states"
    assert student is not None, "this objective needs the student's hidden states"
    losses = FeatureLosses(student, teacher, learner)
    if isinstance(options, TwoStageObjective):
        compare = losses.tinybert if isinstance(options, TinyBertObjective) else losses.minilm
        epochs, rate = options.intermediate_epochs, options.intermediate_learning_rate
        return [Phase("student, hidden states", epochs, rate, losses.loss(compare), predicts=False), predicting]
    combined = losses.pkd(options) if isinstance(options, PkdObjective) else losses.distilbert(options)
    return [replace(predicting, loss=losses.loss(combined))]


def with_quantization_phase(phases: list[Phase], epochs: int) -> list[Phase]:
    """The phases, then the last one again for `epochs` epochs with quantisation-aware training. No such phase if that is 0."""
    if not epochs:
        return phases
    last = phases[-1]
    rate = last.learning_rate / 10  # the weights only have to adapt to the rounding
    name = "student, quantisation-aware"
    return [*phases, replace(last, name=name, epochs=epochs, steps=None, learning_rate=rate, quantization_aware=True)]
