"""AdamW on the rows that a batch reads, against AdamW on all rows."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

from compress.training.optimizer import moving_average, rising_decay
from compress.training.rowwise import Average, RowwiseAdamW, clip_sparse_gradients

STEPS, ROWS, WIDTH = 400, 40, 6
DECAY = 0.98


class Bag(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.layer = nn.Embedding(ROWS, WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, ids: Tensor) -> Tensor:
        return self.layer(torch.tanh(self.table(ids)).mean(dim=1))


def batches() -> list[tuple[Tensor, Tensor]]:
    """Some tokens are in every batch, others in one of a hundred, the last in none."""
    torch.manual_seed(1)
    likely = 1 / torch.arange(1, ROWS).float() ** 1.5
    found = []
    for _ in range(STEPS):
        ids = torch.multinomial(likely, 4 * 5, replacement=True).view(4, 5)
        found.append((ids, ids.sum(dim=1) % 3))
    return found


def trained(model: Bag, *, rowwise: bool, average: bool = True, stops: Sequence[int] = ()) -> tuple[Bag, Bag | None]:
    """The model and its average after `STEPS` steps. After each step of `stops` all rows are brought up to date."""
    optimizer = RowwiseAdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    schedule = LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 40) * (1 - step / STEPS))
    averaged = AveragedModel(model, use_buffers=True) if average else None
    followed = Average(averaged.module.table.weight.data, rising_decay(DECAY)) if averaged else None
    if averaged:
        averaged.multi_avg_fn = moving_average(DECAY, [followed.weights] if rowwise else [])
    tables = [model.table] if rowwise else []
    with optimizer.rowwise(tables, [followed] * len(tables)):
        for number, (ids, labels) in enumerate(batches()):
            nn.functional.cross_entropy(model(ids), labels).backward()
            assert model.table.weight.grad.is_sparse == rowwise
            clip_sparse_gradients(list(model.parameters()), 0.5)
            optimizer.step()
            schedule.step()
            model.zero_grad(set_to_none=True)
            if averaged:
                averaged.update_parameters(model)
            if number in stops:
                optimizer.bring_up_to_date(tables)
    return model, averaged.module if averaged else None


def difference(one: Bag, other: Bag, first: Bag) -> float:
    """The largest difference of two tables, as a share of the largest change of a weight."""
    change = (other.table.weight - first.table.weight).abs().max()
    return float((one.table.weight - other.table.weight).detach().abs().max() / change.detach())


def test_a_training_by_rows_ends_where_one_of_all_rows_ends() -> None:
    torch.manual_seed(0)
    first = Bag()
    dense, dense_average = trained(copy.deepcopy(first), rowwise=False)
    rows, rows_average = trained(copy.deepcopy(first), rowwise=True)
    assert difference(rows, dense, first) < 0.05
    assert difference(rows_average, dense_average, first) < 0.05
    torch.testing.assert_close(rows.layer.weight, dense.layer.weight, rtol=0.05, atol=0.02)
    # A token that is in no batch changes by the weight decay alone.
    torch.testing.assert_close(rows.table.weight[-1], dense.table.weight[-1], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(rows.table.weight[-1], first.table.weight[-1])


def test_rows_between_two_batches_move_on_as_in_a_dense_training() -> None:
    # One gradient and then none: what follows is the momentum of that one.
    tables = [nn.Embedding(3, 2) for _ in range(2)]
    tables[1].load_state_dict(tables[0].state_dict())
    dense, rows = (RowwiseAdamW(table.parameters(), lr=0.1, weight_decay=0.05) for table in tables)
    with rows.rowwise([tables[1]], [None]):
        for number in range(30):
            for table, optimizer in zip(tables, (dense, rows), strict=True):
                ids = torch.tensor([1] if number == 20 else [0, 2])
                (table(ids) * torch.tensor([1.0, -2.0])).sum().backward()
                optimizer.step()
                optimizer.zero_grad()
    alone = float(tables[0].weight[1, 0].detach())
    torch.testing.assert_close(tables[1].weight, tables[0].weight, rtol=0.02, atol=0.0)
    assert float(tables[1].weight[1, 0].detach()) == pytest.approx(alone, rel=0.02)


def test_it_does_not_matter_how_often_rows_are_brought_up_to_date() -> None:
    torch.manual_seed(0)
    first = Bag()
    once, _ = trained(copy.deepcopy(first), rowwise=True)
    often, _ = trained(copy.deepcopy(first), rowwise=True, stops=range(0, STEPS, 7))
    assert difference(often, once, first) < 0.01


def test_without_an_average() -> None:
    torch.manual_seed(0)
    first = Bag()
    dense, rows = (trained(copy.deepcopy(first), rowwise=rowwise, average=False)[0] for rowwise in (False, True))
    assert difference(rows, dense, first) < 0.05


def test_afterwards_the_gradients_are_dense_again() -> None:
    model = Bag()
    trained(model, rowwise=True)
    model(torch.tensor([[1, 2]])).sum().backward()
    assert not model.table.weight.grad.is_sparse
    assert not model.table._forward_pre_hooks


def test_a_repeated_token_counts_once_in_the_norm_of_the_gradient() -> None:
    table = nn.Embedding(4, 1, sparse=True)
    (table(torch.tensor([1, 1, 2])) * torch.tensor([[3.0], [0.0], [4.0]])).sum().backward()
    clip_sparse_gradients([table.weight], 1.0)
    torch.testing.assert_close(
        table.weight.grad.to_dense()[:, 0], torch.tensor([0.0, 0.6, 0.8, 0.0]), rtol=1e-4, atol=0
    )
