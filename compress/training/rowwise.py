"""AdamW that touches only the rows of an embedding table that a batch reads, and ends where a dense AdamW would.

A student's table has most of its weights, and a batch reads a thirtieth of its rows. A dense AdamW goes through all of them at each
step, and so do the clipping of gradients and the moving average of the weights: 12 of 41 ms of a step of the default student on one
core. But what a dense AdamW does with a row between two batches that read it is known beforehand. Its gradient is zero, so its
moments and its weights decay, and the momentum moves it on by a geometric series. So a row is brought up to date just before a
batch reads it, and all rows are before the weights are evaluated.

Two things differ from a dense AdamW, both by far less than the noise of a batch: the momentum moves a row on at the learning rate and
the bias corrections of the step that last changed it, and the moving average takes that motion to be over before the row's next step.

`torch.optim.SparseAdam` is no substitute. It leaves out the motion between two batches, which is most of the motion of a rare
token, and the weight decay.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from compress import processes

# Of a moving average at its step n, counted from 0. At step 0 the average is a copy of the weights.
Decay = Callable[[int], float]
FORGOTTEN = -80.0  # log of a decay that is zero or, of a huge weight decay, below it
CHUNK = 8192  # rows that are brought up to date at once: a table of 250,000 tokens would take gigabytes


@dataclass(frozen=True)
class Average:
    """The moving average of a table's weights."""

    weights: Tensor  # (V, D)
    decay: Decay


class _Rows(NamedTuple):
    """Some rows of a table and of what belongs to it: (R, D) each."""

    weights: Tensor
    first: Tensor  # moment of the gradients
    second: Tensor  # moment of their squares
    average: Tensor | None = None


class RowwiseAdamW(torch.optim.AdamW):
    """AdamW. The tables of `rowwise` are updated row by row, all other weights as ever. For one process on a CPU."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._averages: dict[Tensor, Average] = {}

    @contextmanager
    def rowwise(self, tables: Sequence[nn.Embedding], averages: Sequence[Average | None]) -> Iterator[None]:
        """Inside this context, the tables' gradients are sparse, and rows are brought up to date when a batch reads them.

        :param tables: their weights are read by the tables' forward pass alone. They belong to this optimiser.
        :param averages: of each table's weights, if there is one. Nothing else may update it.
        """
        self._averages = {
            table.weight: average for table, average in zip(tables, averages, strict=True) if average is not None
        }
        with ExitStack() as stack:
            for table in tables:
                stack.enter_context(self._sparse(table))
            yield
            self.bring_up_to_date(tables)

    @contextmanager
    def _sparse(self, table: nn.Embedding) -> Iterator[None]:
        def before(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if module.training and table.weight in self.state:
                self._catch_up(table.weight, inputs[0].unique())

        before_hook = table.register_forward_pre_hook(before)
        table.sparse = True
        try:
            yield
        finally:
            table.sparse = False
            before_hook.remove()

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step. A sparse gradient must be of rows that the table's last forward passes have read."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None and weight.grad.is_sparse:
                    self._step_rows(weight, group)
                    weight.grad = None
        return super().step(closure)

    def bring_up_to_date(self, tables: Sequence[nn.Embedding]) -> None:
        """Give all rows of the tables, and of their averages, the values that they have now."""
        for table in tables:
            if table.weight in self.state:
                for index in torch.arange(len(table.weight)).split(CHUNK):
                    self._catch_up(table.weight, index)

    def _step_rows(self, weight: Tensor, group: dict[str, Any]) -> None:
        gradient = weight.grad.coalesce()  # type: ignore[union-attr]
        index, values = gradient.indices()[0], gradient.values()
        state, average = self._state(weight), self._averages.get(weight)
        (beta1, beta2), rate = group["betas"], float(group["lr"])
        shrink = 1 - rate * group["weight_decay"]
        state["step"] += 1
        state["log_shrink"] += math.log(max(shrink, math.exp(FORGOTTEN)))
        step = float(state["step"])
        rows = self._read(weight, index)  # the forward pass has brought them up to date
        first = rows.first.lerp(values, 1 - beta1)
        second = rows.second.mul(beta2).addcmul_(values, values, value=1 - beta2)
        denominator = second.sqrt().div_(math.sqrt(1 - beta2**step)).add_(group["eps"])
        weights = rows.weights.mul(shrink).addcdiv_(first, denominator, value=-rate / (1 - beta1**step))
        averaged = rows.average
        if average is not None and averaged is not None:
            decay = average.decay(int(step) - 1)
            state["log_decay"] += math.log(decay) if decay else FORGOTTEN
            averaged = torch.lerp(weights, averaged, decay)
        self._write(weight, index, _Rows(weights, first, second, averaged))
        state["rate"][index] = rate

    def _state(self, weight: Tensor) -> dict[str, Tensor]:
        """The state of a table; all of it are floats, since loading a state makes floats of all."""
        state: dict[str, Tensor] = self.state[weight]
        if not state:
            state |= {name: torch.zeros_like(weight) for name in ("exp_avg", "exp_avg_sq")}
            state |= {name: torch.zeros(()) for name in ("step", "log_shrink", "log_decay")}
            # Of each row: the step up to which it is up to date, the sums of logarithms at that step, the rate of its last change.
            state |= {name: torch.zeros(len(weight)) for name in ("at_step", "at_shrink", "at_decay", "rate")}
        return state

    def _catch_up(self, weight: Tensor, index: Tensor) -> None:
        """Bring rows up to date."""
        state = self.state[weight]
        group = next(group for group in self.param_groups if any(weight is other for other in group["params"]))
        beta1, beta2 = group["betas"]
        index = index[state["at_step"].index_select(0, index) < state["step"]]

        def of(name: str) -> Tensor:
            """(R, 1)."""
            return state[name].index_select(0, index).unsqueeze(1)

        weights, first, second, averaged = self._read(weight, index)
        start = of("at_step")
        gap = state["step"] - start  # steps without a gradient
        # Adam's step n after the last one is rate · (β1^n m / (1 − β1^t)) / (√(β2^n v / (1 − β2^t)) + ε).
        ratio = beta1 / math.sqrt(beta2)
        steps = ratio * (1 - ratio**gap) / (1 - ratio)  # their sum, in units of the last one
        denominator = second.sqrt() / (1 - beta2 ** (start + 1)).sqrt() + group["eps"]
        moved = of("rate") / (1 - beta1 ** (start + 1)) * steps * first / denominator
        weights = weights * (state["log_shrink"] - of("at_shrink")).exp() - moved
        if averaged is not None:
            averaged = torch.lerp(weights, averaged, (state["log_decay"] - of("at_decay")).exp())
        self._write(weight, index, _Rows(weights, first * beta1**gap, second * beta2**gap, averaged))

    def _held(self, weight: Tensor) -> list[Tensor]:
        """A table and what belongs to it, in the order of `_Rows`: (V, D) each."""
        state, average = self.state[weight], self._averages.get(weight)
        return [weight.data, state["exp_avg"], state["exp_avg_sq"], *([] if average is None else [average.weights])]

    def _read(self, weight: Tensor, index: Tensor) -> _Rows:
        """Rows as they stand there."""
        return _Rows(*(values.index_select(0, index) for values in self._held(weight)))

    def _write(self, weight: Tensor, index: Tensor, rows: _Rows) -> None:
        """Write rows that are up to date."""
        for values, new in zip(self._held(weight), rows, strict=False):
            assert new is not None, "there is an average if one is held"
            values.index_copy_(0, index, new)
        state = self.state[weight]
        for name, value in (("at_step", "step"), ("at_shrink", "log_shrink"), ("at_decay", "log_decay")):
            state[name][index] = state[value]


class RowwiseTables:
    """The tables of a training's optimisers that are updated row by row.

    None are where processes average their gradients, which must be dense then, and on a GPU, which takes little time for dense ones.

    :param tables: optimisers, and some of their tables. Those of an optimiser of another class are not updated so.
    """

    def __init__(self, tables: Iterable[tuple[torch.optim.Optimizer, Sequence[nn.Embedding]]]) -> None:
        suitable = processes.size() == 1 and not torch.cuda.is_available()
        self.optimizers = [
            (optimizer, own) for optimizer, own in tables if suitable and isinstance(optimizer, RowwiseAdamW)
        ]
        self.averages: dict[nn.Embedding, Average] = {}

    def find_averages(self, model: nn.Module, averaged: nn.Module, decay: Decay) -> list[Tensor]:
        """Find the tables of `model` in its moving average, a copy of it. From now on the optimisers update them."""
        names = {module: name for name, module in model.named_modules()}
        self.averages = {
            table: Average(averaged.get_parameter(f"{names[table]}.weight").data, decay)
            for _, tables in self.optimizers
            for table in tables
        }
        return [average.weights for average in self.averages.values()]

    @contextmanager
    def updated(self) -> Iterator[None]:
        """Inside this context the optimisers update the tables row by row."""
        with ExitStack() as stack:
            for optimizer, tables in self.optimizers:
                stack.enter_context(optimizer.rowwise(tables, [self.averages.get(table) for table in tables]))
            yield

    def bring_up_to_date(self) -> None:
        """See `RowwiseAdamW.bring_up_to_date`."""
        for optimizer, tables in self.optimizers:
            optimizer.bring_up_to_date(tables)


def clip_sparse_gradients(parameters: Sequence[Tensor], largest: float) -> None:
    """Scale the gradients of all weights down to a norm of at most `largest`, some of which are sparse."""
    values: list[Tensor] = []
    for weight in parameters:
        if weight.grad is not None and weight.grad.is_sparse:
            weight.grad = weight.grad.coalesce()  # a token that stands in a batch twice has one gradient
            values.append(weight.grad.values())
        elif weight.grad is not None:
            values.append(weight.grad)
    norm = nn.utils.get_total_norm(values)
    torch._foreach_mul_(values, (largest / (norm + 1e-6)).clamp(max=1.0))
