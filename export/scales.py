"""Takes nodes out of a Q/DQ graph for the CPU that the quantiser leaves in: factors of sums, and transposes of floats."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import onnx
from onnx import numpy_helper


def simplify(model: onnx.ModelProto) -> None:
    """Rewrite the graph in place, with the same answers up to the rounding that is left out.

    - A quantised tensor times a positive constant: only its scale changes.
    - A transpose moves integers.
    """
    graph = _Graph(model.graph)
    for node in list(model.graph.node):
        if node.op_type == "Mul":
            _fold_factor(graph, node)
        if node.op_type == "Transpose":
            _transpose_integers(graph, node)
    drop_unused(model.graph)


def constants_to_initializers(model: onnx.ModelProto) -> None:
    """Make the Constant nodes of a graph initializers, in place. The quantiser takes a Constant for an activation."""
    for node in [node for node in model.graph.node if node.op_type == "Constant"]:
        tensor = model.graph.initializer.add()
        tensor.CopyFrom(node.attribute[0].t)
        tensor.name = node.output[0]
        model.graph.node.remove(node)


def drop_unused(graph: onnx.GraphProto) -> None:
    """Remove nodes and constants that nothing reads, in place."""
    used = {output.name for output in graph.output}
    for node in reversed(list(graph.node)):  # a node comes after those that it reads
        if used.intersection(node.output):
            used.update(node.input)
        else:
            graph.node.remove(node)
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)


class _Graph:
    """A graph with its makers, consumers and constants."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.makers = {name: node for node in graph.node for name in node.output}
        self.consumers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in graph.node:
            for name in node.input:
                self.consumers[name].append(node)

    def dequantized(self, name: str) -> onnx.NodeProto | None:
        """The DequantizeLinear that makes a tensor, if it has one scale and its integers are no constant."""
        node = self.makers.get(name)
        if node is None or node.op_type != "DequantizeLinear" or node.input[0] in self.constants:
            return None
        return node if self.value(node.input[1]).size == 1 else None

    def value(self, name: str) -> np.ndarray:
        """The value of a constant, also of a quantised one. Empty: it is no constant."""
        if name in self.constants:
            return numpy_helper.to_array(self.constants[name])
        node = self.makers.get(name)
        if node is None or node.op_type != "DequantizeLinear" or node.input[0] not in self.constants:
            return np.empty(0)
        integers, scale, zero = (self.value(part) for part in node.input)
        return (integers.astype(np.float32) - zero.astype(np.float32)) * scale if scale.size == 1 else np.empty(0)

    def add_constant(self, name: str, value: np.ndarray) -> str:
        tensor = numpy_helper.from_array(value, name)
        self.graph.initializer.append(tensor)
        self.constants[name] = tensor
        return name


def _fold_factor(graph: _Graph, node: onnx.NodeProto) -> None:
    """DQ → Mul by a positive constant → Q → DQ becomes DQ with another scale."""
    for name, other in (tuple(node.input), tuple(node.input)[::-1]):
        source, factor = graph.dequantized(name), graph.value(other)
        if source is None or factor.size != 1 or factor.item() <= 0:
            continue
        quantizers = graph.consumers[node.output[0]]
        if len(quantizers) != 1 or quantizers[0].op_type != "QuantizeLinear":
            return
        readers = graph.consumers[quantizers[0].output[0]]
        if any(reader.op_type != "DequantizeLinear" for reader in readers):
            return
        scale = np.float32(graph.value(source.input[1]).item() * factor.item())
        scaled = graph.add_constant(f"{node.output[0]}_scale_of_source", np.asarray(scale))
        for reader in readers:
            reader.input[:] = [source.input[0], scaled, *source.input[2:]]
        return


def _transpose_integers(graph: _Graph, node: onnx.NodeProto) -> None:
    """DQ → Transpose → Q → DQ, all with one scale, becomes Transpose → DQ. So the runtime can cancel transposes out."""
    source, quantizers = graph.dequantized(node.input[0]), graph.consumers[node.output[0]]
    if source is None or len(quantizers) != 1 or quantizers[0].op_type != "QuantizeLinear":
        return
    if any(
        (graph.value(a) != graph.value(b)).any() for a, b in zip(source.input[1:], quantizers[0].input[1:], strict=True)
    ):
        return
    integers, before = quantizers[0].output[0], node.output[0]
    node.input[0], node.output[0] = source.input[0], integers
    quantizers[0].output[0] = f"{integers}_unused"
    graph.makers[integers] = node
    graph.makers.pop(before)
