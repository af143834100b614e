"""Exports the attention of a transformer as one operator of ONNX Runtime.

The library's own fusion looks for the patterns of a few versions of transformers and finds none in those of today. Here the
model is told which operator to use, so nothing has to be found.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask

from export.scales import drop_unused

FUSED = "onnxruntime"  # the name of the implementation in transformers
OPERATOR = "MultiHeadAttention"


class _FusedAttention(torch.autograd.Function):
    """softmax(scale · QKᵀ + bias) V of states (B, L, D) with H heads, written as ONNX Runtime's `MultiHeadAttention`."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, heads: int, scale: float
    ) -> Tensor:
        q, k, v = (states.unflatten(2, (heads, -1)).transpose(1, 2) for states in (query, key, value))
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale).transpose(1, 2).flatten(2)

    @staticmethod
    def symbolic(g: Any, query: Any, key: Any, value: Any, bias: Any, heads: int, scale: float) -> Any:
        none = g.op("prim::Constant")
        none.setType(torch._C.OptionalType.ofTensor())
        inputs = [query, key, value] if bias is None else [query, key, value, none, none, bias]
        result = g.op(f"com.microsoft::{OPERATOR}", *inputs, num_heads_i=heads, scale_f=scale)
        result.setType(query.type().with_sizes([None, None, None]))  # sizes of this trace are no constants
        return result


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """An attention function of transformers: Q, K and V (B, H, L, D/H) → (B, L, H, D/H)."""
    heads, size = int(query.shape[1]), int(query.shape[3])
    scale = options.get("scaling") or size**-0.5
    flat = [states.transpose(1, 2).flatten(2) for states in (query, key, value)]
    result = _FusedAttention.apply(*flat, attention_mask, heads, float(scale))
    return result.view(
        query.shape[0], query.shape[2], heads, size
    ), None  # only the sizes of the queries stay variables


@contextmanager
def attention_to_export(model: nn.Module, *, fused: bool) -> Iterator[None]:
    """Within it, the model's attention is one that is exported well. A model of which transformers does not choose it stays as it is.

    :param fused: as ONNX Runtime's operator, which takes no padded texts here. Else the plain products: PyTorch's own operator
        would be exported with a search for NaN in each layer.
    """
    if not (isinstance(model, PreTrainedModel) and model.is_backend_compatible()):
        yield
        return
    AttentionInterface.register(FUSED, _attend)
    AttentionMaskInterface.register(FUSED, eager_mask)  # added to the scores, or None if every token sees every other
    before = model.config._attn_implementation
    model.set_attn_implementation(FUSED if fused else "eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def remove_reshapes(model: onnx.ModelProto) -> None:
    """Remove the reshapes around the fused attention: they split states (B, L, D) into heads and join them again.

    If anything else is done to the heads in between, such as a rotary embedding, the reshapes stay.
    """
    inferred = onnx.shape_inference.infer_shapes(model).graph
    states = {value.name for value in inferred.value_info if len(value.type.tensor_type.shape.dim) == 3}
    makers = {name: node for node in model.graph.node for name in node.output}
    joined: dict[str, str] = {}
    for node in model.graph.node:
        if node.op_type == OPERATOR:
            origins = [_origin(name, makers) for name in node.input[:3]]
            node.input[:3] = [o if o in states else name for o, name in zip(origins, node.input[:3], strict=True)]
        elif node.op_type == "Reshape" and node.output[0] in states:
            origin = _origin(node.input[0], makers)
            if origin in makers and makers[origin].op_type == OPERATOR:
                joined[node.output[0]] = origin
    for node in model.graph.node:
        node.input[:] = [joined.get(name, name) for name in node.input]
    drop_unused(model.graph)


def _origin(name: str, makers: dict[str, onnx.NodeProto]) -> str:
    """The tensor of which this one is a reshape."""
    while name in makers and makers[name].op_type == "Reshape":
        name = makers[name].input[0]
    return name
