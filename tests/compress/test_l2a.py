"""L2A's selector: the policy gradient, what it learns, and that a kill loses nothing."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, PreTrainedModel

from compress.augment.pool import Pool, pool_of_texts
from compress.data.batches import EncodedSplit, SoftTargets, make_loader
from compress.distil.task import StudentTask
from compress.l2a.credit import reward_of, text_credits
from compress.l2a.episodes import EpisodeBatches
from compress.l2a.loop import train_with_selector
from compress.l2a.plot import draw_selector
from compress.l2a.policy import Policy, policy_states, state_size
from compress.l2a.reinforce import Baseline, bernoulli_entropy, bernoulli_kl, reinforce_loss, text_advantages
from compress.l2a.selector import Selector
from compress.recipe import recipe_from
from compress.recipe.sections import SelectorOptions
from compress.runtime.encode import Encoded
from compress.students import BiLstmConfig, BiLstmStudent, CnnStudent, CnnStudentConfig
from compress.training.evaluation import compute_logits
from compress.training.output_layer import logit_layers
from tests.tiny_task import GENOTYPE, KilledError, killed_at


def gradient(loss: torch.Tensor, policy: Policy) -> torch.Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(policy.parameters()))])


def test_the_policy_gradient_is_that_of_finite_differences() -> None:
    """Three decisions with a reward for each of their eight outcomes: the expected reward is a sum, its slope is known."""
    torch.manual_seed(0)
    states, rewards = torch.randn(3, 4).double(), torch.randn(2, 2, 2).double()
    policy = Policy(4, 3, 0.5).double()
    with torch.no_grad():
        policy.out.weight.normal_()
    outcomes = [torch.tensor(a).double() for a in itertools.product((0, 1), repeat=3)]

    def chance(actions: torch.Tensor) -> torch.Tensor:
        keep = policy(states).sigmoid()
        return torch.where(actions == 1, keep, 1 - keep).prod()

    def expected_reward() -> float:
        with torch.no_grad():
            return float(sum(chance(a) * rewards[tuple(a.long())] for a in outcomes))

    baseline = 0.7  # any will do: it changes the variance, not the mean
    estimate = torch.zeros(sum(p.numel() for p in policy.parameters())).double()
    for actions in outcomes:
        advantage = float(rewards[tuple(actions.long())]) - baseline
        weight = float(chance(actions).detach())
        estimate -= (
            weight
            * len(states)
            * gradient(reinforce_loss(policy(states), actions, torch.tensor(advantage), 0.0, 0.5), policy)
        )
    slopes, step = [], 1e-5
    for parameter in policy.parameters():
        for i in range(parameter.numel()):
            values = []
            for sign in (1, -1):
                parameter.data.view(-1)[i] += sign * step
                values.append(expected_reward())
                parameter.data.view(-1)[i] -= sign * step
            slopes.append((values[0] - values[1]) / (2 * step))
    torch.testing.assert_close(estimate, torch.tensor(slopes).double(), atol=1e-7, rtol=1e-4)


def test_the_pull_of_the_prior_by_hand() -> None:
    logits = torch.tensor([0.0, 2.0])
    keep = [0.5, 1 / (1 + np.exp(-2.0))]
    by_hand = [-(p * np.log(p) + (1 - p) * np.log(1 - p)) for p in keep]
    assert bernoulli_entropy(logits).tolist() == pytest.approx(by_hand, abs=1e-6)
    divergence = [p * np.log(p / 0.9) + (1 - p) * np.log((1 - p) / 0.1) for p in keep]
    assert bernoulli_kl(logits, 0.9).tolist() == pytest.approx(divergence, abs=1e-6)
    loss = reinforce_loss(logits, torch.tensor([1.0, 0.0]), torch.tensor(2.0), 0.5, 0.9)
    assert float(loss) == pytest.approx(-2 * np.mean([np.log(0.5), np.log(1 - keep[1])]) + 0.5 * np.mean(divergence))
    assert Policy(4, 3, 0.9)(torch.randn(5, 4)).sigmoid().tolist() == pytest.approx([0.9] * 5)
    assert bernoulli_kl(logits, 0.5).tolist() == pytest.approx(np.log(2) - np.array(by_hand), abs=1e-6)


def test_advantages_by_hand() -> None:
    """Each decision may have an advantage of its own: what it brought less what the other would have."""
    logits, actions = torch.tensor([0.0, 2.0]), torch.tensor([1.0, 0.0])
    chances = np.log([0.5, 1 - 1 / (1 + np.exp(-2.0))])
    assert float(reinforce_loss(logits, actions, torch.tensor([2.0, -1.0]), 0.0, 0.5)) == pytest.approx(
        -np.mean([2.0, -1.0] * chances)
    )
    found = text_advantages(torch.tensor([4.0, 1.0, -4.0]), torch.tensor([1.0, 0.0, 0.0]), 1.0)  # gains 3, 0, -5
    assert found.tolist() == pytest.approx([3 / (34 / 3) ** 0.5, 0.0, 5 / (34 / 3) ** 0.5])


def test_the_baseline_is_a_moving_average() -> None:
    baseline = Baseline(0.75)
    assert baseline.advantage(2.0) == 0.0
    assert baseline.advantage(4.0) == pytest.approx(1.0)  # 2 above, the only distance so far
    assert (baseline.mean, baseline.variance) == (pytest.approx(2.5), pytest.approx(4.0))
    assert baseline.advantage(0.5) == pytest.approx(-2.0 / 4.0**0.5)


def bert(layers: int) -> BertForSequenceClassification:
    torch.manual_seed(layers)
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 16}
    return BertForSequenceClassification(BertConfig(vocab_size=40, num_hidden_layers=layers, num_labels=2, **sizes))


def task(labelled: int, generated: int, wrong: int = 0, pair: bool = False) -> StudentTask:
    """Texts of five tokens; the label is whether low or high tokens prevail. The teacher errs on the last `wrong`."""
    generator = torch.Generator().manual_seed(0)
    dev = 100
    count = labelled + generated + dev
    labels = torch.randint(2, (count,), generator=generator)
    ids = torch.randint(2, 40, (count, 5), generator=generator)
    own = torch.randint(0, 19, (count, 3), generator=generator) + 2 + 19 * labels[:, None]
    ids[:, :3] = own
    encoded = [Encoded(row, row * 0, np.array([0, 0, 0, 1, 1]) if pair else row * 0) for row in ids.numpy()]
    train = labels[: count - dev].clone()
    if wrong:
        train[-wrong:] = 1 - train[-wrong:]
    teacher = SoftTargets(torch.nn.functional.one_hot(train).float() * 6 - 3)
    return StudentTask(
        train=EncodedSplit(encoded[: count - dev], train, pad_token_id=0, teacher=teacher),
        labelled=labelled,
        groups=list(range(labelled)),
        dev=EncodedSplit(encoded[count - dev :], labels[count - dev :], pad_token_id=0),
        labels=["low", "high"],
        pair=pair,
        embeddings=torch.randn(40, 16, generator=generator),
        seed=0,
    )


def teacher_probabilities(data: StudentTask) -> torch.Tensor:
    assert data.train.teacher is not None
    return data.train.teacher.logits.softmax(dim=1)


def train(
    scratch: Path,
    data: StudentTask,
    generated: int,
    method: str = "logits",
    epochs: int = 2,
    rate: float = 2e-3,
    **options: Any,
) -> tuple[PreTrainedModel, list[dict[str, Any]]]:
    settings = {"objective": {"method": method}, "student": {"kind": "transformer"}}
    training = {"epochs": epochs, "batch_size": 8, "learning_rate": rate, "patience": 100}
    recipe = recipe_from({"name": "t", **settings, "compress": training}, "test")
    student = bert(2)
    pool = Pool(
        [bool(i % 2) for i in range(generated)], [False] * generated, [-1.0 - 0.1 * (i % 7) for i in range(generated)]
    )
    selector = SelectorOptions.model_validate({"pool": 16, **options})
    _, log = train_with_selector(student, bert(4), data, pool, recipe.objective, recipe.compress, selector, scratch)
    return student, log


@pytest.mark.parametrize("kind", ["loss", "accuracy"])
def test_the_credit_of_a_text_is_what_a_step_on_it_brings(kind: str) -> None:
    """Against a real step on each text alone, the mean logits on dev held where they were; the weights come back."""
    data, student = task(6, 0), bert(2).eval()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    credits, value = text_credits(student, data.train, data.dev, kind)
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())
    dev, teacher = next(iter(make_loader(data.dev, 100, shuffle=False))), teacher_probabilities(data)

    with torch.no_grad():
        mean = compute_logits(student, dev).mean(dim=0)

    def reward() -> float:
        with torch.no_grad():
            logits = compute_logits(student, dev)
            return float(reward_of(logits - logits.mean(dim=0) + mean, dev.labels, kind).double().mean())

    rate, start = 0.003, reward()
    assert value == pytest.approx(start, abs=1e-6)
    for i, credit in enumerate(credits):
        batch = next(iter(make_loader(data.train.subset([i]), 1, shuffle=False)))
        loss = torch.nn.functional.cross_entropy(compute_logits(student, batch), teacher[i : i + 1])
        slopes = torch.autograd.grad(loss, list(student.parameters()), allow_unused=True)
        with torch.no_grad():
            for weight, slope in zip(student.parameters(), slopes, strict=True):
                if slope is not None:
                    weight -= rate * slope
        assert reward() - start == pytest.approx(rate * float(credit), rel=0.1, abs=1e-6)
        student.load_state_dict(before)
    logits, labels = torch.tensor([[0.0, np.log(3.0)], [0.0, 0.0]]), torch.tensor([1, 0])
    by_hand = {"accuracy": [0.75, 0.5], "loss": np.log([0.75, 0.5])}
    assert reward_of(logits, labels, kind).tolist() == pytest.approx(list(by_hand[kind]))


def test_what_makes_a_label_likelier_everywhere_earns_no_credit() -> None:
    """The only weights are those of a bias, which do nothing else."""
    student = bert(2).eval().requires_grad_(False)
    student.classifier.bias.requires_grad_(True)
    data = task(6, 0)
    leaning = dataclasses.replace(data, dev=data.dev.subset((data.dev.labels == 1).nonzero()[:, 0].tolist()))
    for split in (data.dev, leaning.dev):
        assert text_credits(student, data.train, split, "accuracy")[0].abs().max() < 1e-6
    student.classifier.weight.requires_grad_(True)
    assert text_credits(student, data.train, data.dev, "accuracy")[0].abs().max() > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_selector_learns_to_drop_mislabelled_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Half of the generated texts carry the wrong label; nothing but what they do to the student says which.

    There are enough right ones for the student to come to know better: of 50 it never does, nor then does the selector.
    """
    kept: list[tuple[float, float]] = []
    decide = Selector.decide

    def watch(selector: Selector) -> None:
        decide(selector)
        wrong = torch.tensor(selector.pool_rows(selector.episode)) >= 480
        kept.append((float(selector.actions[~wrong].mean()), float(selector.actions[wrong].mean())))

    monkeypatch.setattr(Selector, "decide", watch)
    data = dataclasses.replace(task(100, 960, wrong=480), seed=seed)
    train(tmp_path, data, 960, epochs=3, rate=3e-4)
    right, wrong = np.nanmean(np.array(kept[:20]), axis=0)
    assert abs(right - wrong) < 0.2  # at first it cannot know
    right, wrong = np.nanmean(np.array(kept[-60:]), axis=0)
    assert wrong < 0.06
    assert right > 5 * wrong


def test_a_killed_loop_ends_as_an_uninterrupted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = task(16, 64)
    whole, log = train(tmp_path / "whole", data, 64, "tinybert")
    monkeypatch.setattr("compress.training.loop.CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(Selector, "learn", killed_at(3, Selector.learn))
    with pytest.raises(KilledError):
        train(tmp_path / "killed", data, 64, "tinybert")
    resumed, resumed_log = train(tmp_path / "killed", data, 64, "tinybert")
    assert all(torch.equal(resumed.state_dict()[name], value) for name, value in whole.state_dict().items())
    assert resumed_log == log
    assert len(log) == 8


def test_all_and_random_are_the_ablations_they_are_called(tmp_path: Path) -> None:
    data = task(16, 64)
    _, learned = train(tmp_path / "learned", data, 64)
    _, everything = train(tmp_path / "all", data, 64, keep="all")
    _, chance = train(tmp_path / "random", data, 64, keep="random")
    assert [entry["keep rate"] for entry in everything] == [1.0] * 8
    assert [entry["keep rate"] for entry in chance] == [entry["keep rate"] for entry in learned]
    assert chance != learned
    assert set(learned[0]["by domain"]) == {"target", "source"}
    assert set(learned[0]["by label"]) == {"low", "high"}
    draw_selector(learned, tmp_path, "toy")
    first = (tmp_path / "selector.svg").read_bytes()
    draw_selector(learned, tmp_path, "toy")
    assert (tmp_path / "selector.svg").read_bytes() == first


def test_an_episode_holds_what_was_kept_and_target_texts_for_the_rest() -> None:
    data = task(10, 50)
    pool = pool_of_texts(50, source=False)
    selector = Selector(bert(2), data, pool, SelectorOptions(pool=16), [])
    dealt = [row for episode in range(3) for row in selector.pool_rows(episode)]
    assert sorted(dealt) == list(range(50))  # an epoch shows each generated text once
    selector.decide()
    batches = EpisodeBatches(selector, 8)
    rows = [row for batch in batches for row in batch]
    kept = {10 + row for row, action in zip(selector.pool_rows(0), selector.actions.tolist(), strict=True) if action}
    assert {row for row in rows if row >= 10} == kept
    assert len(rows) == batches.rows == 17 + 4
    assert len(list(batches)) == len(batches)
    batches.start_at(0, 1)
    assert len(list(batches)) == len(batches) - 1


@pytest.mark.parametrize("labelled", [3, 8, 10])
def test_an_epoch_learns_every_labelled_text_though_all_of_the_pool_is_kept(labelled: int) -> None:
    data = task(labelled, 50)
    selector = Selector(bert(2), data, pool_of_texts(50, source=False), SelectorOptions(pool=8, keep="all"), [])
    batches, rows = EpisodeBatches(selector, 8), []
    for episode in range(selector.episodes_per_epoch):
        selector.episode = episode
        selector.decide()
        batches.start_at(episode)
        rows += [row for batch in batches for row in batch]
    assert set(rows) == set(range(labelled + 50))


def test_an_episode_takes_its_share_of_the_transfer_set_whatever_is_dropped() -> None:
    data = replace(task(10, 50 + 40), transfer=40, share=0.25)  # the last forty
    selector = Selector(bert(2), data, pool_of_texts(50, source=False), SelectorOptions(pool=16, keep="all"), [])
    batches, rows = EpisodeBatches(selector, 8), []
    for episode in range(selector.episodes_per_epoch):
        selector.episode = episode
        selector.decide()
        batches.start_at(episode)
        episode_rows = [row for batch in batches for row in batch]
        assert len(episode_rows) == batches.rows
        rows += episode_rows
    assert set(range(60)) <= set(rows)  # own texts and pool, as without it
    assert (
        sum(row >= 60 for row in rows) == len({row for row in rows if row >= 60}) == 21
    )  # a quarter of 60 + 20, and rounded


def test_an_episodes_gain_can_reward_all_of_it(tmp_path: Path) -> None:
    for reward in ("loss", "accuracy"):
        _, log = train(tmp_path / reward, task(16, 64), 64, credit="episode", reward=reward)
        assert len(log) == 8
        assert log[-1]["by label"] != log[0]["by label"]
        assert len({entry["reward"] for entry in log}) == 8


def test_every_kind_of_student_has_states_and_credits() -> None:
    small = {"vocab_size": 40, "num_labels": 2, "pad_token_id": 0}
    students: list[PreTrainedModel] = [
        bert(2),
        BiLstmStudent(BiLstmConfig(width=16, hidden=8, pair=True, **small)),
        CnnStudent(CnnStudentConfig(width=16, genotype=GENOTYPE.model_dump(mode="json"), **small)),
    ]
    for student in students:
        data = task(6, 0, pair=getattr(student.config, "pair", False))
        states = policy_states(student, data.train, torch.arange(6.0), torch.ones(6))
        assert states.shape == (6, state_size(student))
        width = logit_layers(student)[-1].in_features
        assert states[:, :width].norm(dim=1).tolist() == pytest.approx([1.0] * 6, abs=0.02)
        teacher = teacher_probabilities(data)
        own = states[:, width + 2 : width + 4]
        torch.testing.assert_close(states[:, width : width + 2], teacher)
        torch.testing.assert_close(states[:, width + 4], (teacher - own).abs().sum(dim=1) / 2)
        torch.testing.assert_close(states[:, -2], torch.arange(6.0))
        assert not any(module._forward_pre_hooks for module in student.modules())
        credits, _ = text_credits(student, data.train, data.dev, "accuracy")
        assert credits.isfinite().all()
        assert credits.std() > 0
