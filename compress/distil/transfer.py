"""Meta-KD's transfer loss (arXiv 2012.01266, §3.3)."""

from __future__ import annotations

from torch import Tensor, nn

from compress.objectives.expertise import mean_state
from compress.teachers.domain_representation import DomainRepresentation


class TransferLoss(nn.Module):
    """The mean squared error between the domain representations of the student and of the frozen teacher.

    A learned linear map is applied to the student's representation. The paper has a map for the teacher's as well. Here
    it is the identity: if both maps were learned, both would shrink to zero.

    :param width: of the student's hidden states.
    :param weight: γ2.
    """

    def __init__(self, teacher: DomainRepresentation, width: int, weight: float) -> None:
        super().__init__()
        domains, teacher_width = teacher.domain.weight.shape
        self.weight = weight
        self.teacher = teacher.requires_grad_(False)
        self.student = DomainRepresentation(domains, width)
        if width == teacher_width:
            self.student.load_state_dict(teacher.state_dict())
        self.project = nn.Linear(width, teacher_width)

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor, domains: Tensor) -> Tensor:
        """γ2·MSE, the mean over the width of the representations → (B,).

        :param student: last hidden states, (B, L, d_S).
        :param teacher: last hidden states, (B, L, d_T).
        :param mask: (B, L), 1 on real tokens.
        :param domains: numbers of the texts' domains, (B,).
        """
        learned = self.project(self.student(mean_state(student, mask), domains))
        target = self.teacher(mean_state(teacher, mask), domains)
        return self.weight * (learned - target).square().mean(dim=-1)
