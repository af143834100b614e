"""The selector: it decides which texts of the pool an episode learns from, and learns from the rewards of its decisions."""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from compress.augment.pool import Pool
from compress.data.batches import EncodedSplit, rows_in_turns
from compress.distil.task import StudentTask
from compress.l2a.credit import mean_reward, text_credits
from compress.l2a.policy import Policy, policy_states, state_size
from compress.l2a.reinforce import Baseline, bernoulli_entropy, reinforce_loss, text_advantages
from compress.recipe.sections import SelectorOptions

LogEntry = dict[str, Any]  # of one episode
# How many target texts measure the credit of a target text that replaces a dropped one. An error of this mean changes all
# decisions of an episode in the same direction. With few texts and large steps, the keep rate jumps between episodes.
TARGET_SAMPLE = 64


class Selector:
    """The policy, its optimiser, and the decisions of the current episode. `state_dict` is the part that a checkpoint keeps.

    :param student: the student in training.
    :param pool: describes the texts of `task.train` between the target texts and the transfer set.
    :param rates: for `keep = "random"`: the keep rate of each episode.
    """

    def __init__(
        self, student: PreTrainedModel, task: StudentTask, pool: Pool, options: SelectorOptions, rates: list[float]
    ) -> None:
        self.student, self.task, self.options, self.rates = student, task, options, rates
        self.pool_size = len(pool)
        self.pool_start = len(task.train) - task.transfer - len(pool)  # row of the first pool text in `task.train`
        self.source = torch.tensor(pool.source, dtype=torch.float32)
        self.real = torch.tensor(pool.real)
        self.log_likelihoods = torch.tensor(pool.log_likelihoods, dtype=torch.float32)
        with torch.random.fork_rng(devices=[]):  # the student must get the same random numbers as without a selector
            torch.manual_seed(task.seed)
            self.policy = Policy(state_size(student), options.hidden, options.prior)
        # SGD, not Adam: Adam takes full steps along directions that are only noise, and they soon saturate the policy.
        self.optimizer = torch.optim.SGD(self.policy.parameters(), lr=options.learning_rate)
        self.baseline = Baseline(options.baseline)
        self.episode = 0
        self.score = 0.0  # the student's mean reward on the episode's dev texts, at the start of the episode
        self.states = torch.empty(0)  # (N, F) of the episode's N pool texts
        self.actions = torch.empty(0)  # (N,), 1 for keep and 0 for drop
        self.advantages = torch.empty(0)  # (N,), only with `credit = "text"`
        self.log: list[LogEntry] = []

    @property
    def episodes_per_epoch(self) -> int:
        """The number of episodes in one pass over the pool."""
        return max(1, self.pool_size // self.options.pool)

    def pool_rows(self, episode: int) -> list[int]:
        """The pool texts of an episode, as row numbers of the pool. Each epoch divides the pool in a new random way."""
        return self._share(self.pool_size, episode, str(self.task.seed))

    def target_rows(self, episode: int) -> list[int]:
        """The target texts that an episode always learns, as row numbers of `task.train`. Each is in one episode an epoch."""
        return self._share(self.pool_start, episode, f"{self.task.seed}/target")

    @property
    def transfer_size(self) -> int:
        """Number of texts of the transfer set in an episode: their share of all of its texts, but none twice in an epoch."""
        others = (self.pool_start + self.pool_size) * self.task.share / (1 - self.task.share)
        return round(min(self.task.transfer, others) / self.episodes_per_epoch)

    def transfer_rows(self, episode: int) -> list[int]:
        """The texts of the transfer set that an episode learns, as row numbers of `task.train`. They take turns."""
        task = self.task
        rows = range(len(task.train) - task.transfer, len(task.train))
        return rows_in_turns(rows, self.transfer_size, episode, task.seed)

    def _share(self, count: int, episode: int, seed: str) -> list[int]:
        """The episode's share of `count` rows."""
        epoch, number = divmod(episode, self.episodes_per_epoch)
        order = list(range(count))
        random.Random(f"{seed}/{epoch}").shuffle(order)
        return order[number :: self.episodes_per_epoch]

    def dev_texts(self) -> EncodedSplit:
        """The dev texts that measure the current episode.

        All of them if the episode's gain is the reward, else a random sample of `dev_sample` texts, a new one each episode.
        """
        dev, options = self.task.dev, self.options
        if options.keep == "learned" and options.credit == "episode":
            return dev
        rng = random.Random(f"{self.task.seed}/dev/{self.episode}")
        return dev.subset(rng.sample(range(len(dev)), min(len(dev), options.dev_sample)))

    def decide(self) -> None:
        """Start an episode: compute the student's score, the states of the episode's texts, and the actions."""
        rows = self.pool_rows(self.episode)
        self.states = policy_states(
            self.student,
            self.task.train.subset([self.pool_start + row for row in rows]),
            self.log_likelihoods[rows],
            self.source[rows],
        )
        self.actions = self._draw_actions(len(rows))
        if self.options.keep == "learned" and self.options.credit == "text":
            self.advantages, self.score = self._advantages(rows)
        else:
            self.score = self._mean_reward()

    def learn(self) -> None:
        """End an episode: compute the reward, write the log, and take a step of the policy."""
        reward = self._mean_reward() - self.score
        logits = self.policy(self.states)
        shared = self.baseline.advantage(reward)
        self.log.append(self._log_entry(reward, float(bernoulli_entropy(logits).mean().detach())))
        if self.options.keep == "learned":
            advantage = self.advantages if self.options.credit == "text" else torch.tensor(shared)
            self.optimizer.zero_grad()
            reinforce_loss(logits, self.actions, advantage, self.options.kl, self.options.prior).backward()
            self.optimizer.step()
        self.episode += 1

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {
            "policy": self.policy.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "baseline": dict(vars(self.baseline)),
            "episode": {
                name: getattr(self, name) for name in ("episode", "score", "states", "actions", "advantages", "log")
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.policy.load_state_dict(state["policy"])
        self.optimizer.load_state_dict(state["optimizer"])
        vars(self.baseline).update(state["baseline"])
        vars(self).update(state["episode"])

    def _mean_reward(self) -> float:
        """The student's mean reward on the dev texts of the current episode."""
        return mean_reward(self.student, self.dev_texts(), self.options.reward)

    def _draw_actions(self, count: int) -> Tensor:
        """The actions (count,) for the current states."""
        if self.options.keep == "all":
            return torch.ones(count)
        generator = torch.Generator().manual_seed(self.task.seed * 1_000_003 + self.episode)
        if self.options.keep == "random":
            rate = self.rates[min(self.episode, len(self.rates) - 1)]
            actions = torch.zeros(count)
            actions[torch.randperm(count, generator=generator)[: round(rate * count)]] = 1.0
            return actions
        with torch.no_grad():
            return torch.bernoulli(self.policy(self.states).sigmoid(), generator=generator)

    def _advantages(self, rows: list[int]) -> tuple[Tensor, float]:
        """The advantages (N,) of the current actions, and the student's mean reward.

        The credit of a target text that replaces a dropped one is the mean over a sample of target texts.
        """
        task, rng = self.task, random.Random(f"{self.task.seed}/credit/{self.episode}")
        target = rng.sample(range(self.pool_start), min(self.pool_start, TARGET_SAMPLE))
        credits, score = text_credits(
            self.student,
            task.train.subset([*(self.pool_start + row for row in rows), *target]),
            self.dev_texts(),
            self.options.reward,
        )
        return text_advantages(credits[: len(rows)], self.actions, float(credits[len(rows) :].mean())), score

    def _log_entry(self, reward: float, entropy: float) -> LogEntry:
        rows = self.pool_rows(self.episode)
        source, real = self.source[rows].bool(), self.real[rows]
        labels = self.task.train.labels[[self.pool_start + row for row in rows]]
        by_label = {name: _keep_rate(self.actions[labels == i]) for i, name in enumerate(self.task.labels)}
        return {
            "reward": reward,
            "baseline": self.baseline.mean,
            "entropy": entropy,
            "keep rate": _keep_rate(self.actions),
            "by domain": {"target": _keep_rate(self.actions[~source]), "source": _keep_rate(self.actions[source])},
            "by kind": {"sample": _keep_rate(self.actions[~real]), "real": _keep_rate(self.actions[real])},
            "by label": by_label,
        }


def _keep_rate(actions: Tensor) -> float | None:
    """Share of the texts that are kept; None if there are no texts."""
    return float(actions.mean()) if len(actions) else None
