"""The preflight: everything that is going to be trained is opened, built and run once, before an hour of training goes by.

It takes a few seconds. What is found wrong here is wrong with the models that the recipe names, or with how they go together.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from compress import processes
from compress.augment.pieces import read_vocabulary
from compress.augment.stage import check_augmentation
from compress.console import console
from compress.data.assets import chats, text_bank
from compress.data.batches import Batch, EncodedSplit, SoftTargets, encode_split
from compress.data.corpus import Corpus, Split
from compress.data.domains import student_corpus
from compress.distil.check import check_objective
from compress.distil.learner import Learner
from compress.distil.phases import Phase
from compress.distil.student import train_phases
from compress.distil.task import StudentTask
from compress.distil.transfer import TransferLoss
from compress.pipeline.build_student import make_bilstm
from compress.recipe import Recipe
from compress.recipe.sections import BiLstmOptions, CnnOptions, TransformerOptions
from compress.runtime.encode import Encoded, TextEncoder
from compress.runtime.errors import UserError, one_line
from compress.search.student import make_student
from compress.students.genotype import Genotype, random_genotype, read_genotype, residual_genotype
from compress.students.transformer import make_transformer, student_config
from compress.teachers.checkpoint import (
    check_tokenizer,
    open_config,
    open_tokenizer,
    open_weights,
    usable_positions,
)
from compress.teachers.domain_representation import DomainRepresentation
from compress.teachers.finetune import load_classifier, may_take_mean
from compress.teachers.frozen import recorded_head_input
from compress.teachers.head_labels import check_head_labels, head_labels
from compress.training.accelerator import make_accelerator
from compress.training.evaluation import compute_logits
from compress.training.quantization_aware import rounding
from compress.transfer.stage import check_bank

SAMPLE = 200  # training texts that are encoded
VOTERS = 64  # dev texts on which a fine-tuned head with other label names is asked
UNKNOWN = 0.1  # share of unknown tokens from which on the tokenizer does not suit the texts
WRITTEN = 5  # times the weights of a model that its training writes
WIDTH = 8  # of the stand-in for the teacher's embeddings, whose values do not matter here


class TrialExport(Protocol):
    """Exports an untrained student once. It comes from outside this package, since it needs the exporter."""

    def __call__(self, student: PreTrainedModel, texts: Sequence[Encoded], *, pair: bool, max_length: int) -> None:
        """Write the student as a graph and as INT8, and run both.

        :raises Exception: the student cannot be exported.
        """


@dataclass(frozen=True)
class Weights:
    """The bytes of the weights of a recipe's models."""

    teacher: int  # or its tutor, if that is larger
    student: int

    def bytes_to_train(self, *, teacher_is_made: bool) -> int:
        """The least room on disk that both trainings need: besides the result, the best weights and a checkpoint, which has
        the two moments of AdamW too.
        """
        student = WRITTEN * self.student
        return student if teacher_is_made else max(WRITTEN * self.teacher, self.teacher + student)


def preflight(recipe: Recipe, corpus: Corpus, trial_export: TrialExport | None = None) -> Weights:
    """Check all models of a recipe.

    :param trial_export: how a student is exported; without it, its export is not tried.
    :returns: how large the models are.
    :raises UserError: something does not fit. The message names the setting and the cure.
    """
    own = student_corpus(recipe, corpus).splits["train"]
    rows = random.Random(0).sample(range(len(own)), min(SAMPLE, len(own)))
    sample = _rows(own, rows)
    seeds = torch.random.get_rng_state()
    if isinstance(recipe.student, TransformerOptions):
        config = open_config(recipe.teacher)
        check_objective(recipe.objective, student_config(recipe.student, config), config)
    tutor = _check_tutor(recipe, corpus, sample) if recipe.has_tutor else 0
    teacher, texts = _check_teacher(recipe, corpus, sample)
    check_augmentation(recipe, _rows(sample, [0]))
    if recipe.transfer.texts and recipe.transfer.bank == "embedded":
        text_bank(), chats()
    check_bank(recipe, student_corpus(recipe, corpus))
    if recipe.transfer.replaced:
        read_vocabulary(open_tokenizer(recipe.teacher).backend_tokenizer, "transfer.replaced")
    student = _check_student(recipe, corpus, teacher, texts)
    if trial_export is not None and processes.is_first():
        encoded = [texts.encoded[row] for row in range(len(texts))]
        with _explained("student.kind", "a student of this kind cannot be exported"):
            trial_export(student.cpu(), encoded, pair=corpus.pair, max_length=recipe.target.max_length)
    torch.random.set_rng_state(seeds)
    return Weights(max(tutor, _bytes(teacher)), _bytes(student))


def _bytes(model: PreTrainedModel) -> int:
    return sum(weight.numel() * weight.element_size() for weight in model.parameters())


def _rows(split: Split, rows: Sequence[int]) -> Split:
    """Some rows of a split, all with the first label."""
    return replace(split.take(rows), labels=[0] * len(rows), domains=None)


def _check_tutor(recipe: Recipe, corpus: Corpus, sample: Split) -> int:
    """Check the tutor as a teacher; returns the bytes of its weights. Messages name the settings of the section `tutor`."""
    try:
        model, _ = _check_teacher(recipe.of_tutor(), corpus, sample)
    except UserError as error:
        raise UserError(re.sub(r"\bteacher\.(model|revision|fine_tuned)\b", r"tutor.\1", str(error))) from None
    return _bytes(model)


def _check_teacher(recipe: Recipe, corpus: Corpus, sample: Split) -> tuple[PreTrainedModel, EncodedSplit]:
    """The recipe's model with an untrained head, or its own, and two texts: a short one and one of `max_length` tokens."""
    options, target = recipe.teacher, recipe.target
    config, tokenizer = open_config(options), open_tokenizer(options)
    encoder = TextEncoder(tokenizer.backend_tokenizer, target.max_length, config.pad_token_id or 0)
    texts = _short_and_long(sample, encoder)
    if options.fine_tuned and (own := head_labels(config, target)) != corpus.labels:
        if sorted(own) != sorted(corpus.labels):
            _propose_labels(recipe, corpus, encoder, own)
        check_head_labels(own, corpus.labels, target)
    named = config.id2label.values() if options.fine_tuned else ()
    if unknown := [name for name in corpus.unknown_names if name not in named]:
        console.print(
            f"  [bold yellow]{target.section}.relabel: nothing is called {unknown[0]!r}[/], neither a label of the tables nor a class of "
            "a fine-tuned teacher"
        )
    takes_mean = may_take_mean(options, config.model_type)
    model, unexpected = load_classifier(recipe, corpus.labels, "mean" if takes_mean else "cls")
    check_tokenizer(tokenizer, model, options, target)
    if unexpected := [name for name in unexpected if "pooler" not in name.split(".")]:
        heads = sorted({".".join(name.split(".")[:2]) for name in unexpected})
        shown = ", ".join(heads[:3]) + (", …" if len(heads) > 3 else "")
        console.print(f"  teacher.model: {len(unexpected)} weights of the checkpoint are not used ({shown})")
    _warn_of_unknown_tokens(tokenizer.unk_token_id, sample, encoder, options.model)
    _run_once(model, texts.batch([0, 1]), corpus, f"teacher.model: {options.model}")
    if not options.fine_tuned:
        with recorded_head_input(model) as head_input, torch.inference_mode():  # the head is fitted on such vectors
            compute_logits(model, texts.batch([0]))
            head_input()
    return model, texts


def _short_and_long(sample: Split, encoder: TextEncoder) -> EncodedSplit:
    """The first text of a sample, and all of its texts in one, cut to the most tokens."""
    joined = " ".join(sample.texts)
    longer = joined * (1 + 8 * encoder.max_length // max(1, len(joined)))  # most tokens are of fewer characters
    longer = longer[: 32 * encoder.max_length]  # to cut much more off a pair takes seconds
    second = None if sample.texts_b is None else [sample.texts_b[0], longer]
    return encode_split(Split([sample.texts[0], longer], second, [0, 0], None), encoder)


def _propose_labels(recipe: Recipe, corpus: Corpus, encoder: TextEncoder, own: list[str]) -> None:
    """Refuse a fine-tuned head with other label names, with a proposal from its answers on dev.

    :raises UserError: always.
    """
    dev = corpus.splits["dev"]
    rows = random.Random(0).sample(range(len(dev)), min(VOTERS, len(dev)))
    texts = encode_split(_rows(dev, rows), encoder)
    votes = None
    if len(own) == len(corpus.labels):
        model, _ = open_weights(AutoModelForSequenceClassification, recipe.teacher)
        with torch.inference_mode():
            answers = compute_logits(model.eval(), texts.batch(range(len(rows)))).argmax(dim=1)
        votes = np.zeros((len(own), len(corpus.labels)))
        np.add.at(votes, (answers.numpy(), np.array([dev.labels[row] for row in rows])), 1)
    check_head_labels(own, corpus.labels, recipe.target, votes)


def _warn_of_unknown_tokens(unknown: int | None, sample: Split, encoder: TextEncoder, model: str) -> None:
    """Say so if the tokenizer does not know the script or language of the texts."""
    ids = np.concatenate([text.input_ids for text in encoder.encode(sample.texts, sample.texts_b)])
    share = 0.0 if unknown is None or not len(ids) else float((ids == unknown).mean())
    if share >= UNKNOWN:
        console.print(
            f"  [bold yellow]{share:.0%} of the tokens of the texts are unknown to the tokenizer of {model}[/]: it is for another "
            "language or script"
        )


def _run_once(model: PreTrainedModel, batch: Batch, corpus: Corpus, place: str) -> Tensor:
    """The logits (2, C) of a model on the CPU, checked."""
    with _explained(place, "it cannot be run on a text"), torch.inference_mode():
        logits = compute_logits(model.eval(), batch)
    if logits.shape != (len(batch), len(corpus.labels)):
        raise UserError(
            f"{place}: it gives outputs of shape {tuple(logits.shape)} for {len(batch)} texts and {len(corpus.labels)} labels"
        )
    if not torch.isfinite(logits).all():
        raise UserError(
            f"{place}: its outputs are not finite numbers; its weights are damaged, give another checkpoint"
        )
    return logits


def _check_student(recipe: Recipe, corpus: Corpus, teacher: PreTrainedModel, texts: EncodedSplit) -> PreTrainedModel:
    """The untrained student, after each loss of its objective was computed once."""
    options = recipe.student
    rows = teacher.get_input_embeddings().num_embeddings
    task = StudentTask(
        train=texts,
        labelled=len(texts),
        groups=list(range(len(texts))),
        dev=texts,
        labels=corpus.labels,
        pair=corpus.pair,
        embeddings=torch.randn(rows, WIDTH),
        seed=recipe.seed,
    )
    if isinstance(options, CnnOptions):
        student: PreTrainedModel = make_student(task, options, _genotype(options), None)
    elif isinstance(options, BiLstmOptions):
        student = make_bilstm(task, options)
    else:
        student = make_transformer(options, teacher, teacher, corpus.labels, recipe.seed)
        positions = usable_positions(student)
        if positions is not None and recipe.target.max_length > positions:
            raise UserError(
                f"{recipe.target.section}.max_length: the student ({options.init}) takes {positions} tokens at most, the recipe asks for "
                f"{recipe.target.max_length}"
            )
    logits = _run_once(teacher, texts.batch([0, 1]), corpus, f"teacher.model: {recipe.teacher.model}")
    _run_once(student, texts.batch([0, 1]), corpus, "student")
    layers = getattr(teacher.config, "num_hidden_layers", 1)
    targets = SoftTargets(logits, logits[:, None].expand(-1, layers, -1))
    batch = replace(
        texts.batch([0, 1]), teacher=targets, weights=torch.ones(2), domains=torch.zeros(2, dtype=torch.long)
    )
    transfer = None
    if recipe.transfer_weight:
        known = DomainRepresentation(2, teacher.config.hidden_size)
        transfer = TransferLoss(known, student.config.hidden_size, recipe.transfer_weight)

    def try_phase(phase: Phase, learner: Learner, _: Path) -> list[dict[str, float]]:
        device = make_accelerator().device
        learner.to(device).train()
        with rounding(learner.student) if phase.quantization_aware else nullcontext():
            phase.loss(batch.to(device)).mean().backward()
        return []

    with _explained("objective.method", f"{recipe.objective.method} cannot train this student from this teacher"):
        train_phases(student, teacher, recipe.objective, recipe.compress, Path(), try_phase, transfer)
    student.zero_grad(set_to_none=True)
    return student.eval()


def _genotype(options: CnnOptions) -> Genotype:
    """The student's architecture, or any of its size if that is yet to be found."""
    if options.architecture == "residual":
        return residual_genotype(options.max_cells)
    if options.architecture in ("searched", "random"):
        return random_genotype(options.max_cells, 0)
    return read_genotype(Path(options.architecture))


@contextmanager
def _explained(place: str, what: str) -> Iterator[None]:
    """Turn any exception inside into one line. Models of others raise whatever they like."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{place}: {what} ({one_line(error)}); give another model, or another kind of student"
        ) from None
