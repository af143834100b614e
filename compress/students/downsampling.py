"""A cell that sees half of the positions of the one before (as the blocks of DPCNN, Johnson & Zhang 2017, §2)."""

from __future__ import annotations

from torch import Tensor, nn

from compress.students.operations import Convolution

KERNEL = 5  # positions, so that two windows next to each other share three and no token is seen at an edge only


class Downsampling(nn.Module):
    """The inputs of a cell at every second position: a convolution with a stride of 2.

    DPCNN takes the maximum over positions there. A convolution of five costs more and also is a layer of the network, so that a cell
    behind it sees further, at half the cost for each of its operations.

    :param width: channels D of all members of an ensemble together.
    :param inputs: 2 if both inputs of the cell differ, else 1.
    """

    def __init__(self, width: int, members: int, inputs: int = 1) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            Convolution(width, KERNEL, 1, groups=members, stride=2) for _ in range(inputs)
        )

    def forward(self, first: Tensor, second: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Both inputs (B, D, L) and the mask (B, 1, ⌈L / 2⌉) of the output → (B, D, ⌈L / 2⌉) each, zero where the mask is zero.

        With one convolution the second input becomes both. No mask: there is no padding.
        """
        found = [run(x, mask) for run, x in zip(reversed(self.convolutions), (second, first), strict=False)]
        found = found if mask is None else [x * mask for x in found]
        return found[-1], found[0]

    def fold(self) -> None:
        """Fold the running statistics of BatchNorm into the convolutions, for export."""
        for convolution in self.convolutions:
            convolution.fold()  # type: ignore[operator]


def halved(mask: Tensor) -> Tensor:
    """A mask (B, 1, L) at every second position: (B, 1, ⌈L / 2⌉). A text of one token at an odd position has none left."""
    return mask[:, :, ::2]
