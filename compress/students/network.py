"""A network of cells (AdaBERT §3.1): embeddings → cells → read-outs, with one read-out after each cell.

The supernet and the derived student are such networks. They differ only in the edges of their cells. This module holds
the rest, once for both: how a cell is computed, how the network is built, and how it is computed.

There are no position embeddings: a convolution sees the order of tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from operator import add

from torch import Tensor, nn

from compress.students.cnn_config import CnnStudentConfig
from compress.students.downsampling import Downsampling, halved
from compress.students.genotype import NODES
from compress.students.input_layer import InputLayer, split_mask
from compress.students.layers import Embeddings, ReadOut, pool, weighted_sum

# (state (B, D, L), mask (B, 1, L) or None without padding) → (B, D, L)
EdgeFunction = Callable[[Tensor, Tensor | None], Tensor]
# (first input (B, D, L), second input (B, D, L), mask (B, 1, L)) → (B, D, L)
CellFunction = Callable[[Tensor, Tensor, Tensor], Tensor]


def run_cell(
    first: Tensor,
    second: Tensor,
    mask: Tensor,
    edges: Sequence[tuple[int, int, EdgeFunction]],
    node_weights: Tensor | None,
) -> Tensor:
    """Two inputs (B, D, L) and the mask (B, 1, L) → (B, D, L).

    An inner node is the masked sum of the edges that enter it. The output is the weighted sum of the inner nodes.

    :param edges: (inner node, source, operation); source 0 and 1 are the inputs, 2 + i is inner node i.
    :param node_weights: (N,) logits. None: the output is the plain sum of the inner nodes.
    """
    states = [first, second]
    for node in range(NODES):
        outputs = (operation(states[source], mask) for target, source, operation in edges if target == node)
        states.append(reduce(add, outputs) * mask)  # (B, D, L)
    return reduce(add, states[2:]) if node_weights is None else weighted_sum(states[2:], node_weights)


class CellNetwork:
    """The layers that the supernet and the derived student have in common. Both also derive from `nn.Module`."""

    embeddings: Embeddings
    entrance: InputLayer
    downsampling: nn.ModuleList
    cells: nn.ModuleList
    readouts: nn.ModuleList

    def build_layers(self, config: CnnStudentConfig, make_cell: Callable[[], nn.Module], cells: int) -> None:
        """Create all layers. Their order fixes which random numbers each of them starts from."""
        self.embeddings = Embeddings(config.vocab_size, config.channels, config.dropout, config.token_dropout)
        # This attribute cannot be renamed: saved students and supernets have `entrance` in their parameter names.
        self.entrance = InputLayer(config.channels, config.pair, config.pair_inputs, config.members)
        self.cells = nn.ModuleList(make_cell() for _ in range(cells))
        self.downsampling = nn.ModuleList(
            Downsampling(config.channels, config.members, 1 if number else self.entrance.different)
            for number in range(min(config.halvings, cells))
        )
        # After the first cell two states are read out: the embedded texts and the output of the cell.
        self.readouts = nn.ModuleList(
            ReadOut(depth + 1, config.channels, config.num_labels, self.entrance.texts, config.dropout, config.members)
            for depth in range(1, cells + 1)
        )

    def pooled_states(
        self,
        cells: Iterable[CellFunction],
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None,
    ) -> Iterator[list[Tensor]]:
        """Compute the cells one by one; after each, yield all pooled states so far, each (B, T, 2·D).

        The first state is the embedded texts. Each cell reads the outputs of the two cells before it. One that sees half of the
        positions reads the output of the cell before it alone.

        :param input_ids: (B, L), as are the mask and the token types.
        """
        dtype = self.embeddings.table.weight.dtype
        mask, text_masks = split_mask(attention_mask, token_type_ids, self.entrance.pair, dtype)
        inputs = self.entrance(self.embeddings(input_ids, mask), mask, text_masks)
        previous, current = inputs.first, inputs.second  # (B, D, L)
        mask, text_masks = inputs.mask, inputs.text_masks
        pooled = [pool(inputs.embedded, text_masks)]
        for number, cell in enumerate(cells):
            if number < len(self.downsampling):
                mask, text_masks = halved(mask), [halved(text) for text in text_masks]
                previous, current = self.downsampling[number](previous, current, mask)
            previous, current = current, cell(previous, current, mask)
            pooled.append(pool(current, text_masks))
            yield list(pooled)

    def read_out_each(self, states: Iterable[list[Tensor]]) -> list[Tensor]:
        """Logits (B, C) after each cell, from what `pooled_states` yields."""
        return [readout(pooled) for readout, pooled in zip(self.readouts, states, strict=False)]
