"""How long one step of each kind takes on this machine, timed before a run for the forecast of its plan."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from compress.data.batches import Batch, EncodedSplit, encode_split
from compress.data.corpus import Corpus
from compress.data.single_tokens import MOST_TOKENS
from compress.distil.task import StudentTask
from compress.pipeline.build_student import make_bilstm
from compress.recipe import Recipe
from compress.recipe.sections import BiLstmOptions, CnnOptions, FeatureObjective
from compress.search.student import make_student, make_supernet
from compress.students.genotype import residual_genotype
from compress.students.transformer import make_transformer
from compress.teachers.finetune import load_classifier, save_tokenizer
from compress.training.accelerator import make_accelerator
from compress.training.evaluation import compute_logits
from compress.training.optimizer import averaged_model
from compress.training.rowwise import RowwiseAdamW, RowwiseTables, clip_sparse_gradients

SECONDS = 0.3  # for which a step is repeated
SHARE = 3  # a part of the batch for steps that take long
SAMPLE = 1000  # training texts whose lengths are looked at


@dataclass
class Speeds:
    """Seconds of one step of each kind, each measured when it is first asked for, with texts of mean length.

    :param recipe: the whole recipe.
    :param corpus: the texts that the student is for.
    """

    recipe: Recipe
    corpus: Corpus

    @cached_property
    def teach(self) -> float:
        """A training step of the teacher, with `teacher.batch_size` texts."""
        batch = self._batch(-(-self.recipe.teacher.batch_size // SHARE))
        one = self._training(self._teacher, batch, average=False) / len(batch)
        return one * self.recipe.teacher.batch_size

    @cached_property
    def judge(self) -> float:
        """The teacher's answers on one text, in batches, in the precision of trainings."""
        batch = self._batch(32)
        return self._forward(self._teacher, batch) / len(batch)

    @cached_property
    def vocabulary(self) -> float:
        """The teacher's states of each token of its vocabulary as a text of its own."""
        tokens = 3 * min(self._teacher.config.vocab_size, MOST_TOKENS)  # with two special tokens around each
        return tokens * self.judge / self.tokens

    @cached_property
    def tokens(self) -> float:
        """Of a training text, or of both texts of a pair, in the mean."""
        return sum(self._texts.lengths) / len(self._texts)

    @cached_property
    def learn(self) -> float:
        """A training step of the student, with `compress.batch_size` texts."""
        batch = self._batch(self.recipe.compress.batch_size)
        teacher = self._forward(self._teacher, batch) if isinstance(self.recipe.objective, FeatureObjective) else 0.0
        return teacher + self._training(self._student(), batch, average=self.recipe.compress.average > 0)

    @cached_property
    def search(self) -> float:
        """A step of the search: one of the weights, and its share of one of the architecture."""
        options, student = self.recipe.search, self.recipe.student
        assert isinstance(student, CnnOptions), "only a cnn is searched"
        supernet = make_supernet(self._task, student, student.dropout, student.token_dropout)
        supernet.to(make_accelerator().device)
        batch = self._batch(-(-self.recipe.compress.batch_size // SHARE))

        def loss(dense: bool) -> Tensor:
            inputs = (batch.input_ids, batch.attention_mask, batch.segments)
            logits = supernet(*inputs, supernet.draw(1.0), dense=dense)
            return torch.stack([F.cross_entropy(one.float(), batch.labels) for one in logits]).mean()

        weights = _seconds_of_training(supernet, lambda: loss(False))
        architecture = _seconds_of_training(supernet, lambda: loss(options.dense))
        return (weights + architecture / options.architecture_every) * self.recipe.compress.batch_size / len(batch)

    @cached_property
    def _teacher(self) -> PreTrainedModel:
        teacher, _ = load_classifier(self.recipe, self.corpus.labels)
        return teacher.to(make_accelerator().device)

    @cached_property
    def _texts(self) -> EncodedSplit:
        """A sample of the training texts, in the order of their distance from the mean length."""
        train = self.corpus.splits["train"]
        with TemporaryDirectory() as directory:
            encoder = save_tokenizer(self.recipe, self._teacher, Path(directory))
        rows = random.Random(0).sample(range(len(train)), min(SAMPLE, len(train)))
        texts = encode_split(train.take(rows), encoder)
        mean = sum(texts.lengths) / len(texts)
        return texts.subset(sorted(range(len(texts)), key=lambda row: abs(texts.lengths[row] - mean)))

    def _batch(self, size: int) -> Batch:
        return self._texts.batch([row % len(self._texts) for row in range(size)]).to(make_accelerator().device)

    @cached_property
    def _task(self) -> StudentTask:
        texts = self._texts
        return StudentTask(
            train=texts,
            labelled=len(texts),
            groups=[],
            dev=texts,
            labels=self.corpus.labels,
            pair=self.corpus.pair,
            embeddings=self._teacher.get_input_embeddings().weight.detach().cpu(),
            seed=self.recipe.seed,
        )

    def _student(self) -> PreTrainedModel:
        """A student of this recipe; a cnn has residual cells, half as many as the search may choose."""
        options = self.recipe.student
        student: PreTrainedModel
        if isinstance(options, CnnOptions):
            student = make_student(self._task, options, residual_genotype(-(-options.max_cells // 2)), None)
        elif isinstance(options, BiLstmOptions):
            student = make_bilstm(self._task, options)
        else:
            student = make_transformer(options, self._teacher, self._teacher, self.corpus.labels, self.recipe.seed)
        return student.to(make_accelerator().device)

    def _forward(self, model: PreTrainedModel, batch: Batch) -> float:
        """Seconds of a forward pass without gradients."""
        accelerator = make_accelerator()
        model.eval()

        def step() -> None:
            with torch.inference_mode(), accelerator.autocast():
                compute_logits(model, batch).float().cpu()

        return _repeated(step)

    def _training(self, model: PreTrainedModel, batch: Batch, *, average: bool) -> float:
        """Seconds of a forward and a backward pass, the optimiser's step and that of the moving average."""
        return _seconds_of_training(
            model, lambda: F.cross_entropy(compute_logits(model, batch).float(), batch.labels), average=average
        )


def _seconds_of_training(model: nn.Module, loss: Callable[[], Tensor], *, average: bool = False) -> float:
    """Mean seconds of a training step of a model as `compress.training.loop` makes it. It trains with a rate of zero.

    :param average: with a moving average of the weights.
    """
    accelerator = make_accelerator()
    model.train()
    optimizer = RowwiseAdamW(model.parameters(), lr=0.0, fused=True)
    tables = RowwiseTables([(optimizer, getattr(model, "embedding_tables", list)())])
    averaged = averaged_model(model, 0.99, tables) if average else None

    def step() -> None:
        with accelerator.autocast():
            value = loss()
        value.backward()
        clip_sparse_gradients(list(model.parameters()), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if averaged is not None:
            averaged.update_parameters(model)
        value.item()  # waits for a GPU

    with tables.updated():
        return _repeated(step)


def _repeated(step: Callable[[], None]) -> float:
    """Mean seconds of a step, after a first one that is not counted: it allocates."""
    step()
    started, count = time.monotonic(), 0
    while count == 0 or time.monotonic() - started < SECONDS:
        step()
        count += 1
    return (time.monotonic() - started) / count
