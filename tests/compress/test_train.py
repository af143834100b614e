from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from compress.data.batches import Batch, EncodedSplit, LengthBatches, SoftTargets, make_loader
from compress.recipe.sections import TrainOptions
from compress.runtime.encode import Encoded
from compress.runtime.errors import UserError
from compress.training.accelerator import make_accelerator
from compress.training.evaluation import predict
from compress.training.loop import Schedule, fit
from compress.training.optimizer import OptimizerStep, adamw, make_scheduler, moving_average
from tests.tiny_task import KilledError, killed_at


def split(size: int = 40) -> EncodedSplit:
    generator = torch.Generator().manual_seed(0)
    encoded = []
    for i in range(size):
        ids = torch.randint(1, 20, (3 + i % 5,), generator=generator).numpy()
        encoded.append(Encoded(ids, ids * 0, ids * 0))
    rows = torch.arange(size, dtype=torch.float32)
    teacher = SoftTargets(logits=rows[:, None] * torch.ones(2), probes=rows[:, None, None] * torch.ones(3, 2))
    return EncodedSplit(
        encoded,
        torch.arange(size) % 2,
        pad_token_id=0,
        teacher=teacher,
        weights=rows / size,
        domains=torch.arange(size) % 3,
    )


class Bag(nn.Module):
    """A bag of words with dropout, so that a wrong random state after a resume shows."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.dropout, self.out = nn.Embedding(20, 8), nn.Dropout(0.3), nn.Linear(8, 2)

    def forward(self, batch: Batch) -> torch.Tensor:
        x = self.embedding(batch.input_ids) * batch.attention_mask.unsqueeze(2)
        return self.out(self.dropout(x.sum(dim=1)))


def train(workspace: Path, kill_at: int = 0) -> tuple[Bag, list[dict[str, float]]]:
    """Two optimisers, one of them every other step; `kill_at` ends the training in the middle of that step."""
    torch.manual_seed(0)
    model, data = Bag(), split()

    def loss(batch: Batch, progress: float) -> torch.Tensor:
        return nn.functional.cross_entropy(model(batch), batch.labels)

    dying = killed_at(kill_at, loss)
    loader = make_loader(data, 8, shuffle=True, seed=1)
    other = make_loader(data.subset(range(20)), 8, shuffle=True, seed=2)
    steps = [
        OptimizerStep(loader, torch.optim.AdamW(model.embedding.parameters(), lr=1e-2), dying, warmup=0.1),
        OptimizerStep(other, torch.optim.Adam(model.out.parameters(), lr=1e-2), dying, constant=True, every=2),
    ]
    evaluations = iter(range(100))
    state = fit(
        "t",
        model,
        steps,
        lambda _: {"metric": float(next(evaluations))},
        Schedule(4, 4, 0, keep_last=True),
        workspace,
    )
    return model, state.history


def test_a_killed_training_ends_with_the_weights_of_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = train(tmp_path / "whole")
    monkeypatch.setattr("compress.training.loop.CHECKPOINT_SECONDS", 0.0)  # a checkpoint at every step
    for kill_at in (3, 20):
        with pytest.raises(KilledError):
            train(tmp_path / "killed", kill_at)
    resumed, history = train(tmp_path / "killed")
    assert len(history) == 4
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def train_averaged(workspace: Path, *, rowwise: bool = True, kill_at: int = 0) -> Bag:
    """One optimiser and a moving average; the embeddings are updated row by row or all at once."""
    torch.manual_seed(0)
    model = Bag()
    loader = make_loader(split(), 8, shuffle=True, seed=1)

    def loss(batch: Batch, progress: float) -> torch.Tensor:
        return nn.functional.cross_entropy(model(batch), batch.labels)

    options = TrainOptions(batch_size=8, learning_rate=0.01, weight_decay=0.1)
    tables = [model.embedding] if rowwise else []
    step = adamw(loader, model.parameters(), killed_at(kill_at, loss), options, tables=tables)
    fit("t", model, [step], lambda _: {"metric": 0.0}, Schedule(6, 6, 0, keep_last=True, average=0.9), workspace)
    return model


def test_a_killed_training_by_rows_ends_with_the_weights_of_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_averaged(tmp_path / "whole")
    monkeypatch.setattr("compress.training.loop.CHECKPOINT_SECONDS", 0.0)
    for kill_at in (3, 20):
        with pytest.raises(KilledError):
            train_averaged(tmp_path / "killed", kill_at=kill_at)
    resumed = train_averaged(tmp_path / "killed")
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_a_training_by_rows_gives_the_average_of_a_dense_one(tmp_path: Path) -> None:
    rows, dense = (train_averaged(tmp_path / str(rowwise), rowwise=rowwise) for rowwise in (True, False))
    torch.testing.assert_close(rows.embedding.weight, dense.embedding.weight, rtol=0.02, atol=0.005)
    torch.testing.assert_close(rows.out.weight, dense.out.weight, rtol=0.02, atol=0.005)


def test_every_epoch_has_its_own_order(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, seen = Bag(), []

    def loss(batch: Batch, progress: float) -> torch.Tensor:
        seen.append(tuple(batch.index.tolist()))
        return nn.functional.cross_entropy(model(batch), batch.labels)

    step = OptimizerStep(make_loader(split(), 8, shuffle=True), torch.optim.SGD(model.parameters(), lr=0.1), loss)
    fit("t", model, [step], lambda _: {"metric": 0.0}, Schedule(3, 3, 0, keep_last=True), tmp_path)
    epochs = [seen[i : i + 5] for i in (0, 5, 10)]
    assert all(sorted(row for batch in epoch for row in batch) == list(range(40)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_finished_training_found_again_is_not_repeated(tmp_path: Path) -> None:
    first, _ = train(tmp_path)
    again, _ = train(tmp_path, kill_at=1)  # would be killed if it took a step
    assert torch.equal(first.out.weight, again.out.weight)


def test_training_stops_early_and_keeps_the_best_epoch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Bag()
    seen: list[torch.Tensor] = []
    scores = [0.5, 0.9, 0.8, 0.7, 0.6, 0.5]

    def evaluate(m: nn.Module) -> dict[str, float]:
        seen.append(m.out.weight.detach().clone())  # type: ignore[union-attr, operator]
        return {"metric": scores[len(seen) - 1]}

    step = OptimizerStep(
        make_loader(split(), 8, shuffle=True),
        torch.optim.AdamW(model.parameters(), lr=1e-2),
        lambda batch, _: nn.functional.cross_entropy(model(batch), batch.labels),
    )
    state = fit("t", model, [step], evaluate, Schedule(6, 2, 0), tmp_path)
    assert len(seen) == 4  # two epochs without a better score after the second
    assert state.best_epoch == 1
    assert torch.equal(model.out.weight, seen[1])


def test_the_optimiser_of_a_section_has_its_settings() -> None:
    options = TrainOptions(batch_size=8, learning_rate=0.02, weight_decay=0.3, warmup=0.25, max_grad_norm=2.0)
    model, loader = Bag(), make_loader(split(), 8, shuffle=False)

    def loss(batch: Batch, progress: float) -> torch.Tensor:
        return model(batch).sum()

    step = adamw(loader, model.parameters(), loss, options)
    (group,) = step.optimizer.param_groups
    assert isinstance(step.optimizer, torch.optim.AdamW)
    assert (group["lr"], group["weight_decay"], step.warmup, step.max_grad_norm) == (0.02, 0.3, 0.25, 2.0)
    assert [id(weight) for weight in step.parameters] == [id(weight) for weight in model.parameters()]
    scheduler = make_scheduler(step, 8)
    rates = []
    for _ in range(8):
        rates.append(step.optimizer.param_groups[0]["lr"])
        step.optimizer.step()
        scheduler.step()
    # Up from zero in two steps, then down to zero after the eighth.
    assert rates == pytest.approx([0.0, 0.01, 0.02, 0.02 * 5 / 6, 0.02 * 4 / 6, 0.01, 0.02 * 2 / 6, 0.02 / 6])
    groups = [{"params": [model.out.weight]}, {"params": [model.out.bias], "lr": 0.5}]
    kept = adamw(loader, groups, loss, options, learning_rate=0.1, constant=True)
    assert [group["lr"] for group in kept.optimizer.param_groups] == [0.1, 0.5]
    assert (kept.constant, kept.warmup) == (True, 0.0)


def test_a_moving_average_forgets_its_start_within_a_few_steps() -> None:
    model = nn.Linear(1, 1, bias=False)
    averaged = AveragedModel(model, multi_avg_fn=moving_average(0.998), use_buffers=True)
    values = []
    for weight in (0.0, 1.0, 1.0):
        nn.init.constant_(model.weight, weight)
        averaged.update_parameters(model)
        values.append(averaged.module.weight.item())
    # The first is taken over; then the decay is (1 + n) / (10 + n): 2/11 and 3/12.
    assert values == pytest.approx([0, 9 / 11, 9 / 11 * 0.25 + 0.75])


def test_batches_hold_every_row_once_and_depend_on_seed_and_epoch_only() -> None:
    lengths = [i % 17 + 1 for i in range(203)]
    sampler = LengthBatches(lengths, 8, shuffle=True, seed=3)
    first = list(sampler)
    assert sorted(row for batch in first for row in batch) == list(range(203))
    assert len(first) == len(sampler)
    sampler.start_at(1)
    assert list(sampler) != first
    sampler.start_at(0, skip=5)
    assert list(sampler) == first[5:]


def test_what_is_known_of_a_text_travels_with_its_row_and_predictions_keep_the_order() -> None:
    data = split()
    loader = make_loader(data, 8, shuffle=False)
    for batch in loader:
        rows = batch.index.float()
        assert torch.equal(batch.labels, batch.index % 2)
        assert torch.equal(batch.teacher_logits, rows[:, None] * torch.ones(2))
        assert torch.equal(batch.teacher_probes, rows[:, None, None] * torch.ones(3, 2))
        assert torch.equal(batch.weights, rows / 40)
        assert torch.equal(batch.domain_numbers, batch.index % 3)
        assert batch.input_ids.shape == batch.attention_mask.shape
    out = predict(Bag(), loader, lambda _, batch: batch.teacher_logits, make_accelerator())
    assert torch.equal(out[:, 0], torch.arange(40.0))
    some = data.subset([7, 3])
    assert some.batch([0, 1]).teacher_logits[:, 0].tolist() == [7.0, 3.0]
    assert some.batch([1]).domain_numbers.tolist() == [0]
    half = data.batch([4, 5, 6, 7]).map(lambda tensor: tensor[1::2])
    assert half.index.tolist() == half.teacher_logits[:, 0].tolist() == [5, 7]
    assert len(half) == 2


def test_what_a_training_needs_and_the_texts_have_not_is_named() -> None:
    data = split()
    bare = EncodedSplit(data.encoded, data.labels, pad_token_id=0).batch([0])
    assert bare.weights is None
    with pytest.raises(AssertionError, match="no teacher's outputs"):
        _ = bare.teacher_logits
    with pytest.raises(AssertionError, match="no domains"):
        _ = bare.domain_numbers
    unprobed = EncodedSplit(data.encoded, data.labels, 0, teacher=SoftTargets(torch.zeros(40, 2))).batch([0])
    with pytest.raises(AssertionError, match="not probed"):
        _ = unprobed.teacher_probes


@pytest.mark.parametrize("broken", ["checkpoint/model.safetensors", "best.pt"])
def test_a_damaged_checkpoint_is_one_line_with_the_cure(tmp_path: Path, broken: str) -> None:
    train(tmp_path)
    assert (tmp_path / broken).stat().st_size > 100
    (tmp_path / broken).write_bytes((tmp_path / broken).read_bytes()[:100])
    with pytest.raises(UserError, match=f"cannot be read; remove {tmp_path} and run the same command again"):
        train(tmp_path)
