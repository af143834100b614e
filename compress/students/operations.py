"""The length-preserving operations of the search space, on (B, D, L) with a mask (B, 1, L).

Every operation is invariant to padding: real positions of a padded text get what they get when the text stands alone.
They rely on masked positions of the input being zero, which the cell guarantees.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from compress.students.genotype import Operation


class Convolution(nn.Module):
    """Conv1d → BatchNorm → ReLU.

    The paper has BatchNorm after the ReLU. Before it, BatchNorm folds into the convolution at export and costs nothing.
    """

    def __init__(self, width: int, kernel: int, dilation: int, inputs: int | None = None) -> None:
        super().__init__()
        padding = dilation * (kernel - 1) // 2
        self.conv = nn.Conv1d(inputs or width, width, kernel, padding=padding, dilation=dilation, bias=False)
        self.norm: nn.Module = nn.BatchNorm1d(width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, D, L), or as many channels as `inputs` says → (B, D, L)."""
        return F.relu(self.norm(self.conv(x)))

    def fold(self) -> None:
        """Fold BatchNorm's running statistics into the convolution, for export."""
        if isinstance(self.norm, nn.BatchNorm1d):
            self.conv = fuse_conv_bn_eval(self.conv.eval(), self.norm.eval())
            self.norm = nn.Identity()


class MaxPool(nn.Module):
    """Maximum over three positions; outside the text stands zero, as on masked positions."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, D, L) → (B, D, L)."""
        return F.max_pool1d(F.pad(x, (1, 1)), 3, stride=1)


class AveragePool(nn.Module):
    """Mean over the real tokens among three positions."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, D, L) → (B, D, L)."""
        share = F.avg_pool1d(mask, 3, stride=1, padding=1)  # real tokens / 3
        return F.avg_pool1d(x, 3, stride=1, padding=1) / share.clamp(min=1 / 3)


class Identity(nn.Module):
    """The input itself."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, D, L) → (B, D, L)."""
        return x


class Zero(nn.Module):
    """No connection."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, D, L) → zeros (B, D, L)."""
        return x * 0


def build_operation(name: Operation, width: int) -> nn.Module:
    """A fresh operation on `width` channels."""
    if name.startswith("conv"):
        return Convolution(width, int(name.removeprefix("conv")), 1)
    if name.startswith("dilated"):
        return Convolution(width, int(name.removeprefix("dilated")), 2)
    return {"zero": Zero, "identity": Identity, "max_pool3": MaxPool, "avg_pool3": AveragePool}[name]()
