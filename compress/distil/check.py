"""Whether a student's shape fits an objective."""

from __future__ import annotations

from transformers import PretrainedConfig

from compress.recipe.sections import (
    DistilBertObjective,
    FeatureObjective,
    ObjectiveOptions,
    PkdObjective,
    TwoStageObjective,
)
from compress.runtime.errors import UserError


def check_objective(options: ObjectiveOptions, student: PretrainedConfig, teacher: PretrainedConfig) -> None:
    """Refuse a student that this objective cannot train.

    :raises UserError: unequal widths, head counts or vocabularies, or too few or too many layers. The message says why.
    """
    if student.vocab_size != teacher.vocab_size:
        raise UserError(
            f"student.init: its vocabulary has {student.vocab_size} tokens, the teacher's {teacher.vocab_size}; "
            "choose a student with the teacher's vocabulary"
        )
    method = options.method
    if isinstance(options, DistilBertObjective | PkdObjective) and student.hidden_size != teacher.hidden_size:
        raise UserError(
            f"objective.method: {method!r} compares hidden states directly, but the student is {student.hidden_size} wide and "
            f"the teacher {teacher.hidden_size}; use tinybert, which learns projections, or minilm or logits"
        )
    if isinstance(options, PkdObjective) and student.num_hidden_layers < 2:
        raise UserError(
            "objective.method: 'pkd' matches the layers below the last, and the student has only one; "
            "set student.layers = 2 or more"
        )
    if isinstance(options, TwoStageObjective) and student.num_attention_heads != teacher.num_attention_heads:
        raise UserError(
            f"objective.method: {method!r} compares attention head by head, but the student has {student.num_attention_heads} "
            f"heads and the teacher {teacher.num_attention_heads}; choose student.heads = {teacher.num_attention_heads} or logits"
        )
    if student.num_hidden_layers > teacher.num_hidden_layers and isinstance(options, FeatureObjective):
        raise UserError(
            f"objective.method: {method!r} matches layers, but the student has {student.num_hidden_layers} and the teacher only "
            f"{teacher.num_hidden_layers}; set student.layers to {teacher.num_hidden_layers} or fewer"
        )
