"""Looking inside a transformer: hidden states, attention scores before softmax, values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.data.batches import Batch
from compress.runtime.errors import UserError
from compress.training.evaluation import model_inputs

# Names of the three projections in an attention block: BERT, RoBERTa, ELECTRA, …; DistilBERT.
_PROJECTIONS = (("query", "key", "value"), ("q_lin", "k_lin", "v_lin"))


@dataclass(frozen=True)
class States:
    """What a forward pass shows; H heads of size d_h."""

    logits: Tensor  # (B, C)
    hidden: tuple[Tensor, ...]  # embeddings, then each layer's output, all (B, L, d)
    queries: list[Tensor] = field(default_factory=list)  # one a layer, (B, H, L, d_h); empty unless asked for
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)

    def scores(self, layer: int) -> Tensor:
        """Attention scores A = Q Kᵀ / √d_h before softmax of a layer, counted from 0 or from the end (B, H, L, L)."""
        queries, keys = self.queries[layer].float(), self.keys[layer].float()
        return queries @ keys.transpose(-1, -2) / queries.shape[-1] ** 0.5


class Observer:
    """Runs a transformer classifier and returns its `States`. Use as a context: it hooks into the attention blocks.

    The scores are computed from queries and keys, since no fast attention kernel hands them out.

    :param attention: whether queries, keys and values are wanted too.
    :raises UserError: they are, and this kind of model has no such projections.
    """

    def __init__(self, model: PreTrainedModel, *, attention: bool = False) -> None:
        self.model = model
        self._heads = int(model.config.num_attention_heads)
        self._caught: dict[str, list[Tensor]] = {}
        self._handles = []
        for role, modules in (_attention_projections(model) if attention else {}).items():
            for module in modules:
                self._handles.append(module.register_forward_hook(self._catch(role)))

    def __enter__(self) -> Observer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()

    def __call__(self, batch: Batch) -> States:
        """States of a batch; gradients as the model and the context have them."""
        self._caught = {"queries": [], "keys": [], "values": []}
        out = self.model(**model_inputs(self.model, batch), output_hidden_states=True)
        caught, self._caught = self._caught, {}
        return States(out.logits, out.hidden_states, **caught)

    def _catch(self, role: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if role not in self._caught:
                return  # the model runs for somebody else
            batch, length, _ = output.shape
            self._caught[role].append(output.view(batch, length, self._heads, -1).transpose(1, 2))

        return hook


@torch.no_grad()
def observe_frozen(observer: Observer, batch: Batch) -> States:
    """States of a teacher, which learns nothing."""
    return observer(batch)


def _attention_projections(model: PreTrainedModel) -> dict[str, list[nn.Module]]:
    found = dict(model.named_modules())
    for names in _PROJECTIONS:
        by_role = [[m for path, m in found.items() if path.split(".")[-1] == name] for name in names]
        if all(len(modules) == model.config.num_hidden_layers for modules in by_role):
            return dict(zip(("queries", "keys", "values"), by_role, strict=True))
    raise UserError(
        f"objective.method: {type(model).__name__} has no attention projections that we know (query, key, value); "
        "use logits, distilbert or pkd"
    )
