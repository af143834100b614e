"""The loop of L2A: the student learns from what the selector keeps, and the selector from how much that helped on dev.

An epoch goes once through all texts, as with any other augmentation, cut into episodes. The target's labelled texts are always
learned, an episode's share of them in each; the pool, which is all the rest (samples, and real texts of the source or without
labels), is what the policy decides on.
At the start of an episode it keeps or drops each of its texts of the pool; what is dropped gives its place to target texts, so
that every episode is as long. At its end the policy takes a step of REINFORCE: each decision is rewarded with what its text, or the
target text in its place, did for the student on a sample of dev (`credit = "text"`), or all of them with the episode's gain on dev.
Since dev is what rewards, a figure on dev is a little flattered; report one on test where there is any.

An episode is an epoch of `fit`, with whose checkpoints the selector is saved; the student itself is judged, on all of dev, at the
end of each pass over the texts.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Sampler
from transformers import PreTrainedModel

from compress.augment.pool import Pool
from compress.data.batches import EncodedSplit, loader_of
from compress.distil.plan import Learner, Phase
from compress.distil.student import mean_loss, train_phase, train_phases
from compress.distil.task import StudentTask
from compress.l2a.credit import mean_reward, text_credits
from compress.l2a.policy import Policy, policy_states, state_size
from compress.l2a.reinforce import Baseline, bernoulli_entropy, reinforce_loss, text_advantages
from compress.recipe.sections import CompressOptions, ObjectiveOptions, SelectorOptions
from compress.training.accelerator import make_accelerator
from compress.training.evaluation import predict_logits
from compress.training.loop import Schedule, fit
from compress.training.optimizer import adamw

Episode = dict[str, Any]  # one line of the log
# Texts that say what a target text brings in the place of a dropped one. What they err by, they err for all decisions of an
# episode alike: with few of them, and large steps, the keep rate swings from one episode to the next.
TARGETS = 64


def train_with_selector(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    task: StudentTask,
    pool: Pool,
    objective: ObjectiveOptions,
    training: CompressOptions,
    options: SelectorOptions,
    scratch: Path,
) -> tuple[list[dict[str, float]], list[Episode]]:
    """Train the student in place, leaving it with the weights of its best pass over the texts, on the CPU.

    An objective's first stage, before the student can be judged, learns from the whole pool, and so does what follows
    with INT8's rounding.

    :param pool: what is known of the last `len(pool)` texts of `task.train`.
    :returns: the dev metrics of each epoch, and the selector's log, an entry an episode.
    """
    rates: list[float] = []
    if options.keep == "random":
        # As many as the learned selector keeps: that one is trained first, on a copy of the student.
        learned = options.model_copy(update={"keep": "learned"})
        twin, workspace = copy.deepcopy(student), scratch / "learned"
        unrounded = training.model_copy(update={"quantization_epochs": 0})
        _, decided = train_with_selector(twin, teacher, task, pool, objective, unrounded, learned, workspace)
        rates = [float(episode["keep rate"]) for episode in decided]
    log: list[Episode] = []

    def train(phase: Phase, learner: Learner, workspace: Path) -> list[dict[str, float]]:
        if phase.rounded or not phase.predicts:
            return train_phase(phase, learner, task, training, workspace)
        selector = Selector(learner.student, task, pool, options, rates)
        history = _train_episodes(phase, learner, selector, training, workspace)
        log.extend(selector.log)
        return history

    history = train_phases(student, teacher, objective, training, scratch, train)
    return history, log


class Selector:
    """The policy with all that changes as it learns; `state_dict` is what a checkpoint keeps."""

    def __init__(
        self, student: PreTrainedModel, task: StudentTask, pool: Pool, options: SelectorOptions, rates: list[float]
    ) -> None:
        self.student, self.task, self.options, self.rates = student, task, options, rates
        self.first = len(task.train) - len(pool)  # of the pool, in `task.train`
        self.source = torch.tensor(pool.source, dtype=torch.float32)
        self.real = torch.tensor(pool.real)
        self.log_likelihoods = torch.tensor(pool.log_likelihoods, dtype=torch.float32)
        with torch.random.fork_rng(devices=[]):  # the student's own draws stay what they are
            torch.manual_seed(task.seed)
            self.policy = Policy(state_size(student), options.hidden, options.prior)
        # Not Adam: it takes steps of full length along directions of pure noise, which soon saturate the policy.
        self.optimizer = torch.optim.SGD(self.policy.parameters(), lr=options.learning_rate)
        self.baseline = Baseline(options.baseline)
        self.episode = 0
        self.score = 0.0  # the student's reward on the episode's dev texts, before it
        self.states = torch.empty(0)  # of the episode's texts
        self.actions = torch.empty(0)
        self.advantages = torch.empty(0)  # where each text has its own
        self.log: list[Episode] = []

    @property
    def episodes_an_epoch(self) -> int:
        """How many episodes one pass over the pool makes."""
        return max(1, len(self.source) // self.options.pool)

    def texts(self, episode: int) -> list[int]:
        """The texts of an episode, as rows of the pool; each epoch deals them out anew."""
        return self._dealt(len(self.source), episode, str(self.task.seed))

    def target_texts(self, episode: int) -> list[int]:
        """The target's labelled texts that an episode learns whatever is kept; likewise, each once an epoch."""
        return self._dealt(self.first, episode, f"{self.task.seed}/target")

    def _dealt(self, texts: int, episode: int, seed: str) -> list[int]:
        epoch, number = divmod(episode, self.episodes_an_epoch)
        order = list(range(texts))
        random.Random(f"{seed}/{epoch}").shuffle(order)
        return order[number :: self.episodes_an_epoch]

    def dev(self) -> EncodedSplit:
        """The dev texts that an episode is measured on: all of them where their gain is the reward, else a sample of its own."""
        dev, options = self.task.dev, self.options
        if options.keep == "learned" and options.credit == "episode":
            return dev
        rng = random.Random(f"{self.task.seed}/dev/{self.episode}")
        return dev.subset(rng.sample(range(len(dev)), min(len(dev), options.dev_sample)))

    def _measure(self) -> float:
        return mean_reward(self.student, self.dev(), self.options.reward)

    def decide(self) -> None:
        """Begin an episode: how the student stands, the states of its texts, and what is done with each."""
        rows = self.texts(self.episode)
        self.states = policy_states(
            self.student,
            self.task.train.subset([self.first + row for row in rows]),
            self.log_likelihoods[rows],
            self.source[rows],
        )
        draw = torch.Generator().manual_seed(self.task.seed * 1_000_003 + self.episode)
        if self.options.keep == "all":
            self.actions = torch.ones(len(rows))
        elif self.options.keep == "random":
            rate = self.rates[min(self.episode, len(self.rates) - 1)]
            self.actions = torch.zeros(len(rows))
            self.actions[torch.randperm(len(rows), generator=draw)[: round(rate * len(rows))]] = 1.0
        else:
            with torch.no_grad():
                self.actions = torch.bernoulli(self.policy(self.states).sigmoid(), generator=draw)
            if self.options.credit == "text":
                self.advantages, self.score = self._advantages(rows)
                return
        self.score = self._measure()

    def _advantages(self, rows: list[int]) -> tuple[Tensor, float]:
        """Of the decisions just taken, (N,), and how the student stands.

        What replaces a dropped text is measured on a few target texts.
        """
        task, rng = self.task, random.Random(f"{self.task.seed}/credit/{self.episode}")
        target = rng.sample(range(self.first), min(self.first, TARGETS))
        credits, score = text_credits(
            self.student,
            task.train.subset([*(self.first + row for row in rows), *target]),
            self.dev(),
            self.options.reward,
        )
        return text_advantages(credits[: len(rows)], self.actions, float(credits[len(rows) :].mean())), score

    def learn(self) -> None:
        """End an episode: reward the decisions, log them, and take a step."""
        reward = self._measure() - self.score
        logits = self.policy(self.states)
        shared = self.baseline.advantage(reward)
        self.log.append(self._entry(reward, float(bernoulli_entropy(logits).mean().detach())))
        if self.options.keep == "learned":
            advantage = self.advantages if self.options.credit == "text" else torch.tensor(shared)
            self.optimizer.zero_grad()
            reinforce_loss(logits, self.actions, advantage, self.options.kl, self.options.prior).backward()
            self.optimizer.step()
        self.episode += 1

    def _entry(self, reward: float, entropy: float) -> Episode:
        rows = self.texts(self.episode)
        source, real = self.source[rows].bool(), self.real[rows]
        verdicts = self.task.train.labels[[self.first + row for row in rows]]
        by_label = {name: _rate(self.actions[verdicts == i]) for i, name in enumerate(self.task.labels)}
        return {
            "reward": reward,
            "baseline": self.baseline.mean,
            "entropy": entropy,
            "keep rate": _rate(self.actions),
            "by domain": {"target": _rate(self.actions[~source]), "source": _rate(self.actions[source])},
            "by kind": {"sample": _rate(self.actions[~real]), "real": _rate(self.actions[real])},
            "by label": by_label,
        }

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {
            "policy": self.policy.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "baseline": dict(vars(self.baseline)),
            "now": {
                name: getattr(self, name) for name in ("episode", "score", "states", "actions", "advantages", "log")
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.policy.load_state_dict(state["policy"])
        self.optimizer.load_state_dict(state["optimizer"])
        vars(self.baseline).update(state["baseline"])
        vars(self).update(state["now"])


def _rate(actions: Tensor) -> float | None:
    """Share of the texts kept; None of no texts."""
    return float(actions.mean()) if len(actions) else None


@dataclass
class EpisodeBatches(Sampler[list[int]]):
    """The batches of an episode: its share of the target's texts, what was kept, and target texts in the places of the others.

    The order is a function of (seed, episode, actions), so a resumed run sees the same batches.
    """

    selector: Selector
    batch_size: int
    episode: int = 0
    skip: int = 0

    def start_at(self, epoch: int, skip: int = 0) -> None:
        """Let the next pass be that of an episode, without its first `skip` batches."""
        self.episode, self.skip = epoch, skip

    @property
    def rows(self) -> int:
        """Texts in an episode: as many as it has of the pool, and its share of the target's; the same in all."""
        return -(-len(self.selector.source) // self.episodes) - (-self.selector.first // self.episodes)

    @property
    def episodes(self) -> int:
        """Of an epoch."""
        return self.selector.episodes_an_epoch

    def __len__(self) -> int:
        return -(-self.rows // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        selector, rng = self.selector, random.Random(f"{self.selector.task.seed}/{self.episode}")
        rows = selector.target_texts(self.episode)
        rows += [
            selector.first + row
            for row, action in zip(selector.texts(self.episode), selector.actions.tolist(), strict=True)
            if action
        ]
        while (free := self.rows - len(rows)) > 0:
            rows += rng.sample(range(selector.first), min(free, selector.first))
        rng.shuffle(rows)
        rows.sort(key=lambda row: len(selector.task.train.encoded[row]))  # little padding
        batches = [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]
        rng.shuffle(batches)
        return iter(batches[self.skip :])


def _train_episodes(
    phase: Phase, learner: Learner, selector: Selector, training: CompressOptions, scratch: Path
) -> list[dict[str, float]]:
    learner.to(make_accelerator().device)
    task = selector.task

    def evaluate(model: nn.Module) -> dict[str, float]:
        # A moving average hardly shows what one episode did: the selector is paid for the weights themselves.
        selector.learn()
        selector.decide()
        kept = selector.log[-1]["keep rate"]
        if selector.episode % selector.episodes_an_epoch:
            return {"kept": kept}
        logits = predict_logits(cast(Learner, model).student, task.dev)
        accuracy = float((logits.argmax(dim=1) == task.dev.labels).float().mean())
        loss = float(F.cross_entropy(logits, task.dev.labels))
        return {"metric": accuracy, "dev accuracy": accuracy, "dev loss": loss, "kept": kept}

    episodes = training.epochs * selector.episodes_an_epoch
    selector.decide()
    loader = loader_of(task.train, EpisodeBatches(selector, training.batch_size), task.seed)
    step = adamw(loader, learner.parameters(), mean_loss(phase), training, learning_rate=phase.learning_rate)
    schedule = Schedule(
        episodes, training.patience * selector.episodes_an_epoch, task.seed, average=training.average or None
    )
    state = fit(phase.name, learner, [step], evaluate, schedule, scratch, extra=(selector,))
    return [metrics for metrics in state.history if "metric" in metrics]
