"""Forward passes of a transformer that also give its hidden states and its attention projections."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.data.batches import Batch
from compress.objectives.relation import scaled_dot_products
from compress.runtime.errors import UserError
from compress.training.evaluation import model_inputs

# Names of the three projections in an attention block. First those of BERT, RoBERTa, ELECTRA and others, then DistilBERT's and MPNet's.
_PROJECTIONS = (("query", "key", "value"), ("q_lin", "k_lin", "v_lin"), ("q", "k", "v"))


@dataclass(frozen=True)
class ForwardOutputs:
    """The tensors of one forward pass. There are H attention heads of size d_h."""

    logits: Tensor  # (B, C)
    hidden_states: tuple[Tensor, ...]  # the embeddings, then the output of each layer, all (B, L, d)
    queries: list[Tensor] = field(default_factory=list)  # one for each layer, (B, H, L, d_h); empty if not recorded
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)

    def attention_scores(self, layer: int) -> Tensor:
        """A = Q Kᵀ / √d_h of a layer before softmax, (B, H, L, L).

        :param layer: counted from 0, or from the end if negative.
        """
        return scaled_dot_products(self.queries[layer], self.keys[layer])


class ForwardRecorder:
    """Runs a transformer classifier and returns its `ForwardOutputs`.

    Use it as a context manager: it registers hooks on the attention blocks and removes them at the end. Fast attention
    kernels do not return the attention scores. So it records queries and keys, and the scores are computed from them.

    :param attention: whether to record queries, keys and values too.
    :raises UserError: `attention` is set, and the projections of this kind of model are not known.
    """

    def __init__(self, model: PreTrainedModel, *, attention: bool = False) -> None:
        self.model = model
        self._heads = int(model.config.num_attention_heads)
        self._recorded: dict[str, list[Tensor]] = {}
        self._handles = []
        for role, modules in (_attention_projections(model) if attention else {}).items():
            for module in modules:
                self._handles.append(module.register_forward_hook(self._record(role)))

    def __enter__(self) -> ForwardRecorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()

    def __call__(self, batch: Batch) -> ForwardOutputs:
        """Run the model on a batch. The outputs have gradients unless the caller has disabled them."""
        self._recorded = {"queries": [], "keys": [], "values": []}
        out = self.model(**model_inputs(self.model, batch), output_hidden_states=True)
        recorded, self._recorded = self._recorded, {}
        return ForwardOutputs(out.logits, out.hidden_states, **recorded)

    def _record(self, role: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if role not in self._recorded:
                return  # somebody else runs the model, for example to evaluate it
            batch, length, _ = output.shape
            self._recorded[role].append(output.view(batch, length, self._heads, -1).transpose(1, 2))

        return hook


def _attention_projections(model: PreTrainedModel) -> dict[str, list[nn.Module]]:
    """The modules that compute queries, keys and values, each in the order of the layers."""
    found = dict(model.named_modules())
    for names in _PROJECTIONS:
        by_role = [[m for path, m in found.items() if path.split(".")[-1] == name] for name in names]
        if all(len(modules) == model.config.num_hidden_layers for modules in by_role):
            return dict(zip(("queries", "keys", "values"), by_role, strict=True))
    raise UserError(
        f"objective.method: {type(model).__name__} has no attention projections with a known name (query, key, value); "
        "use logits, distilbert or pkd"
    )
