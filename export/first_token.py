"""Computes the last layer of a transformer for the first token alone, if the classifier reads no other.

From the queries of the last attention on, each token goes its own way. So the first one can be taken there, before most of the
matrix products of this layer instead of after them. The logits stay the same.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import onnx
from onnx import helper, numpy_helper

from export.attention import OPERATOR

# What they compute for a token depends on no other token.
_EACH_TOKEN = frozenset(
    {"Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Erf", "Tanh", "Relu", "Sigmoid", "MatMul", "LayerNormalization"}
)
_FIRST = "first_token"


def first_token_only(model: onnx.ModelProto) -> None:
    """Take the first token of the states (B, L, D) as early as possible, in place. A graph that reads other tokens stays as it is."""
    graph = model.graph
    known = _Known(model)
    readers: dict[str, list[tuple[onnx.NodeProto, int]]] = defaultdict(list)
    for node in graph.node:
        for i, name in enumerate(node.input):
            readers[name].append((node, i))
    outputs = {output.name for output in graph.output}
    moved: dict[str, onnx.NodeProto] = {}  # by output: nodes that compute the first token only
    for node in reversed(graph.node):
        result = node.output[0]
        if result in outputs or not readers[result] or not known.is_each_token(node):
            continue
        if all(known.takes_first(reader) or _reads_first(reader, i, moved) for reader, i in readers[result]):
            moved[result] = node
    _shorten(graph, known, moved)


class _Known:
    """What is known of the tensors of a graph."""

    def __init__(self, model: onnx.ModelProto) -> None:
        inferred = onnx.shape_inference.infer_shapes(model).graph
        self._ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in inferred.value_info}
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type == "Constant":
                self._constants[node.output[0]] = node.attribute[0].t
            elif node.op_type == "Identity" and node.input[0] in self._constants:  # of two equal tensors, one is stored
                self._constants[node.output[0]] = self._constants[node.input[0]]

    def is_states(self, name: str) -> bool:
        """Whether a tensor is (B, L, D)."""
        return self._ranks.get(name) == 3 and name not in self._constants

    def takes_first(self, node: onnx.NodeProto) -> bool:
        """Whether a node takes token 0 of states."""
        if node.op_type != "Gather" or not self.is_states(node.input[0]) or node.input[1] not in self._constants:
            return False
        index = numpy_helper.to_array(self._constants[node.input[1]])
        return index.shape == () and index == 0 and any(a.name == "axis" and a.i == 1 for a in node.attribute)

    def is_each_token(self, node: onnx.NodeProto) -> bool:
        """Whether each token of a node's result depends on the same token of its inputs, or on that of the queries alone."""
        if node.op_type == OPERATOR:
            return len(node.input) == 3 and all(self.is_states(name) for name in node.input)
        weights = [name for name in node.input if not self.is_states(name)]
        if node.op_type not in _EACH_TOKEN or len(weights) == len(node.input):
            return False
        if node.op_type == "MatMul":
            return weights == [node.input[1]] and self._rank_of_constant(weights[0]) == 2
        return all(self._rank_of_constant(name) in (0, 1) for name in weights)

    def _rank_of_constant(self, name: str) -> int | None:
        return len(self._constants[name].dims) if name in self._constants else None


def _reads_first(reader: onnx.NodeProto, i: int, moved: dict[str, onnx.NodeProto]) -> bool:
    """Whether a node needs only the first token of its input `i`. An attention needs all keys and values."""
    return reader.output[0] in moved and not (reader.op_type == OPERATOR and i > 0)


def _shorten(graph: onnx.GraphProto, known: _Known, moved: dict[str, onnx.NodeProto]) -> None:
    """Give the moved nodes the first token (B, 1, D) of what other nodes compute."""
    if not moved:
        return
    graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.int64), _FIRST))
    taken: dict[str, onnx.NodeProto] = {}
    for node in moved.values():
        for i, name in enumerate(node.input):
            if not known.is_states(name) or name in moved or not _reads_first(node, i, moved):
                continue
            if name not in taken:
                taken[name] = helper.make_node(
                    "Gather", [name, _FIRST], [f"{name}_{_FIRST}"], f"{name}_{_FIRST}", axis=1
                )
            node.input[i] = taken[name].output[0]
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        graph.node.append(node)
        graph.node.extend(taken[name] for name in node.output if name in taken)
    del graph.value_info[:]  # some lengths are 1 now
