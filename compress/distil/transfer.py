"""Meta-KD's transfer loss (arXiv 2012.01266, §3.3)."""

from __future__ import annotations

from torch import Tensor, nn

from compress.objectives.expertise import mean_state
from compress.teachers.domain_representation import DomainRepresentation


class Transfer(nn.Module):
    """The transfer loss: the student's domain representation learns the frozen teacher's.

    The student's goes through a learned linear map. The teacher's own map is fixed, at the identity: were it learned
    too, both maps would shrink to zero.

    :param width: the student's.
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
        """γ2·MSE over width of the representations → (B,); the last hidden states are (B, L, d_S) and (B, L, d_T)."""
        learned = self.project(self.student(mean_state(student, mask), domains))
        target = self.teacher(mean_state(teacher, mask), domains)
        return self.weight * (learned - target).square().mean(dim=-1)
