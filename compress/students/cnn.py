"""The convolutional student: a genotype as a Hugging Face model (AdaBERT §3.1).

During training, the logits after every cell are matched to a layer of the teacher. Afterwards only the last read-out is
computed.

Differences from the paper: BatchNorm comes before the ReLU (see operations.py), there are no position embeddings (see
network.py), a read-out also pools the maximum (see layers.py), by default both inputs of the first cell see both texts of a
pair (see input_layer.py), and cells may see half of the positions (see downsampling.py).
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compress.students.base import Student
from compress.students.cnn_config import CnnStudentConfig
from compress.students.genotype import NODES, Genotype
from compress.students.network import CellNetwork, EdgeFunction, run_cell
from compress.students.operations import Convolution, Zero, build_operation


class Cell(nn.Module):
    """A cell of the derived network: one operation on each edge of the genotype."""

    def __init__(self, genotype: Genotype, width: int, members: int = 1) -> None:
        super().__init__()
        self.places = [(node, edge.source) for node, edge in genotype.edges]
        self.operations = nn.ModuleList(build_operation(edge.operation, width, members) for _, edge in genotype.edges)
        self.node_weights = nn.Parameter(torch.zeros(NODES))
        self.scales = [1.0] * len(self.places)  # of the edges; `fold` sets them
        self.folded = False

    def forward(self, first: Tensor, second: Tensor, mask: Tensor) -> Tensor:
        """Two inputs (B, D, L) and the mask (B, 1, L) → (B, D, L)."""
        return run_cell(first, second, mask, self.edges(), None if self.folded else self.node_weights)

    def edges(self) -> list[tuple[int, int, EdgeFunction]]:
        """(inner node, source, operation) as `run_cell` takes them."""
        return [
            (*place, operation if scale == 1 else partial(_scaled, operation, scale))
            for place, operation, scale in zip(self.places, self.operations, self.scales, strict=True)
        ]

    def fold(self) -> None:
        """Fold BatchNorm and the node weights into the operations, for export. The cell's output stays the same.

        Each inner node then carries its share of the output, so that the output is a plain sum. All operations allow that: a
        positive factor of their input becomes a factor of their output.
        """
        shares = F.softmax(self.node_weights.detach(), dim=0).tolist()
        for edge, ((node, source), operation) in enumerate(zip(self.places, self.operations, strict=True)):
            scale = shares[node] / (1.0 if source < 2 else shares[source - 2])
            if isinstance(operation, Convolution):
                operation.fold(weight=scale, bias=shares[node])
            elif not isinstance(operation, Zero):
                self.scales[edge] = scale
        self.folded = True


def _scaled(operation: EdgeFunction, scale: float, x: Tensor, mask: Tensor | None) -> Tensor:
    return operation(x, mask) * scale


class CnnStudent(Student, CellNetwork):
    """The classifier of a genotype. It saves and loads like any other Hugging Face model."""

    config_class = CnnStudentConfig

    def __init__(self, config: CnnStudentConfig) -> None:
        super().__init__(config)
        genotype = Genotype.model_validate(config.genotype)
        self.build_layers(config, lambda: Cell(genotype, config.channels, config.members), genotype.cells)
        self.post_init()

    def compute_logits(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None) -> Tensor:
        """See `Student.compute_logits`."""
        *_, pooled = self.pooled_states(self.cells, input_ids, attention_mask, token_type_ids)
        return self.readouts[-1](pooled)

    def logits_per_cell(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> list[Tensor]:
        """Logits (B, C) after each cell, first to last."""
        return self.read_out_each(self.pooled_states(self.cells, input_ids, attention_mask, token_type_ids))

    def logits_of_members(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> list[list[Tensor]]:
        """For each member of the ensemble its logits (B, C) after each cell, first to last. In training each learns alone."""
        if self.config.members == 1:
            return [self.logits_per_cell(input_ids, attention_mask, token_type_ids)]
        states = self.pooled_states(self.cells, input_ids, attention_mask, token_type_ids)
        per_cell = [readout.member_logits(pooled) for readout, pooled in zip(self.readouts, states, strict=True)]  # type: ignore[operator]
        return [[logits[:, member] for logits in per_cell] for member in range(self.config.members)]

    def fold(self) -> None:
        """Fold BatchNorm and all softmax weights into convolutions and classifier, for export.

        The logits of `compute_logits` stay the same. Those after earlier cells do not: do not train the model further.
        """
        if self.entrance.alignment is not None:
            self.entrance.alignment.compare.fold()
        for downsampling in self.downsampling:
            downsampling.fold()  # type: ignore[operator]
        for cell in self.cells:
            cell.fold()  # type: ignore[operator]
        self.readouts[-1].fold()  # type: ignore[operator]
