"""The training loop of L2A: the student learns from the texts that the selector keeps, and the selector from the dev texts.

A training has two kinds of texts. The target texts are the labelled texts of the task. The student always learns from
them, and from the transfer set where there is one. The pool is all other texts: generated samples, texts of the source
domain, texts without labels. The selector keeps or drops each text of the pool.

An epoch is one pass over all texts. It is divided into episodes, and each text is in one episode of an epoch. An episode
has these steps:

1. The selector keeps or drops each pool text of the episode.
2. The student learns from the episode's target texts, its texts of the transfer set and the kept texts. A target text
   replaces each dropped text, so that all episodes have the same length.
3. The policy takes one REINFORCE step. With `credit = "text"`, the reward of a decision is how much its text helped the
   student on a sample of the dev texts; for a dropped text, how much the target text that replaced it helped. With
   `credit = "episode"`, all decisions of the episode share one reward, the change on all dev texts.

Because the rewards come from the dev texts, the dev accuracy is slightly too high. Report the accuracy on test texts if
there are any.

For `fit`, an episode is an epoch, and the selector is part of its checkpoints. The student is evaluated on all dev texts
at the end of each pass.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import cast

from torch import nn
from transformers import PreTrainedModel

from compress.augment.pool import Pool
from compress.data.batches import loader_of
from compress.distil.learner import Learner
from compress.distil.phases import Phase
from compress.distil.student import mean_loss, train_phase, train_phases
from compress.distil.task import StudentTask
from compress.l2a.episodes import EpisodeBatches
from compress.l2a.selector import LogEntry, Selector
from compress.recipe.sections import CompressOptions, ObjectiveOptions, SelectorOptions
from compress.training.accelerator import make_accelerator
from compress.training.evaluation import dev_metrics
from compress.training.loop import Schedule, fit
from compress.training.optimizer import adamw


def train_with_selector(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    task: StudentTask,
    pool: Pool,
    objective: ObjectiveOptions,
    training: CompressOptions,
    options: SelectorOptions,
    scratch: Path,
) -> tuple[list[dict[str, float]], list[LogEntry]]:
    """Train the student in place. At the end it has the weights of its best pass over the texts, and is on the CPU.

    The selector works only in the phase that trains the student's predictions. A first phase that trains its hidden states,
    and a last phase with the rounding of INT8, learn from the whole pool.

    :param pool: describes the texts of `task.train` between the labelled ones and the transfer set.
    :returns: the dev metrics of each pass, and the selector's log with one entry an episode.
    """
    rates: list[float] = []
    if options.keep == "random":
        # To be comparable, a random selector keeps as many texts as a learned one. So a learned one is trained first, with
        # a copy of the student.
        learned, copied = options.model_copy(update={"keep": "learned"}), copy.deepcopy(student)
        unrounded = training.model_copy(update={"quantization_epochs": 0})
        _, entries = train_with_selector(
            copied, teacher, task, pool, objective, unrounded, learned, scratch / "learned"
        )
        rates = [float(entry["keep rate"]) for entry in entries]
    log: list[LogEntry] = []

    def train(phase: Phase, learner: Learner, workspace: Path) -> list[dict[str, float]]:
        if phase.quantization_aware or not phase.predicts:
            return train_phase(phase, learner, task, training, workspace)
        selector = Selector(learner.student, task, pool, options, rates)
        history = _train_episodes(phase, learner, selector, training, workspace)
        log.extend(selector.log)
        return history

    history = train_phases(student, teacher, objective, training, scratch, train)
    return history, log


def _train_episodes(
    phase: Phase, learner: Learner, selector: Selector, training: CompressOptions, scratch: Path
) -> list[dict[str, float]]:
    """Train the student and the selector; returns the dev metrics of each pass over the texts."""
    learner.to(make_accelerator().device)
    task, episodes = selector.task, selector.episodes_per_epoch

    def evaluate(model: nn.Module) -> dict[str, float]:
        # The selector is rewarded for the weights themselves: one episode hardly changes their moving average.
        selector.learn()
        selector.decide()
        kept = selector.log[-1]["keep rate"]
        if selector.episode % episodes:
            return {"kept": kept}
        return {**dev_metrics(cast(Learner, model).student, task.dev), "kept": kept}

    selector.decide()
    loader = loader_of(task.train, EpisodeBatches(selector, training.batch_size), task.seed)
    step = adamw(loader, learner.parameters(), mean_loss(phase), training, learning_rate=phase.learning_rate)
    schedule = Schedule(
        training.passes(len(loader) * episodes) * episodes,
        training.patience * episodes,
        task.seed,
        average=training.average or None,
    )
    state = fit(phase.name, learner, [step], evaluate, schedule, scratch, extra=(selector,))
    return [metrics for metrics in state.history if "metric" in metrics]
