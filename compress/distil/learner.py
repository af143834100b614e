"""The module that a distillation trains."""

from __future__ import annotations

from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from compress.distil.transfer import TransferLoss
from compress.recipe.sections import ObjectiveOptions, TinyBertObjective


class Learner(nn.Module):
    """The student, with the further weights that its losses train.

    These are the projections of an objective that compares hidden states of unequal width, and the transfer loss of a
    meta-teacher.
    """

    def __init__(
        self,
        student: PreTrainedModel,
        projections: dict[str, nn.Module] | None = None,
        transfer: TransferLoss | None = None,
    ) -> None:
        super().__init__()
        self.student = student
        self.projections = nn.ModuleDict(projections or {})
        self.transfer = transfer

    def projected(self, name: str, states: Tensor) -> Tensor:
        """Hidden states (B, L, d_S) in the teacher's width, (B, L, d_T)."""
        return self.projections[name](states) if name in self.projections else states


def make_learner(
    options: ObjectiveOptions,
    student: PreTrainedModel,
    teacher: PretrainedConfig,
    transfer: TransferLoss | None = None,
) -> Learner:
    """The student with the projections that the objective needs, and with a meta-teacher's transfer loss if there is one."""
    width = getattr(student.config, "hidden_size", teacher.hidden_size)
    projections: dict[str, nn.Module] = {}
    if isinstance(options, TinyBertObjective) and width != teacher.hidden_size:
        # One for the embeddings, and one for all layers (TinyBERT, Eq. 8 and 9).
        projections = {name: nn.Linear(width, teacher.hidden_size, bias=False) for name in ("embeddings", "hidden")}
    return Learner(student, projections, transfer)
