"""A recipe's student before its training, and its training."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from compress.augment.pool import Pool, load_pool, pool_of_texts
from compress.data.files import write_json
from compress.distil.student import train_student
from compress.distil.task import StudentTask
from compress.distil.transfer import TransferLoss
from compress.heads import MeanPooling
from compress.l2a.loop import train_with_selector
from compress.l2a.plot import draw_selector
from compress.pipeline.stage import StageContext
from compress.recipe.sections import BiLstmOptions, CnnOptions, L2aOptions
from compress.search.student import derived_student
from compress.students.base import label_names
from compress.students.bilstm import BiLstmConfig, BiLstmStudent
from compress.students.embeddings import project_embeddings
from compress.students.transformer import make_transformer
from compress.teachers.finetune import load_classifier
from compress.teachers.frozen import Representation
from compress.teachers.meta import DomainKnowledge


def build_student(context: StageContext, task: StudentTask, teacher: PreTrainedModel) -> PreTrainedModel:
    """The student with its initial weights."""
    recipe = context.recipe
    options = recipe.student
    torch.manual_seed(task.seed)
    if isinstance(options, CnnOptions):
        inherits = options.architecture == "searched" and recipe.search.inherit
        search = context.result("search") if inherits else None
        return derived_student(task, options, context.result("architecture"), search)
    if isinstance(options, BiLstmOptions):
        return make_bilstm(task, options)
    representation: Representation = "mean" if isinstance(teacher, MeanPooling) else "cls"
    pretrained, _ = load_classifier(recipe, task.labels, representation)
    return make_transformer(options, teacher, pretrained, task.labels, task.seed)


def train_student_of(
    context: StageContext, task: StudentTask, student: PreTrainedModel, teacher: PreTrainedModel
) -> list[dict[str, float]]:
    """Train the recipe's student in place; returns the dev metrics of each epoch.

    L2A also writes the selector's log, `selector.json`, and a plot of it.
    """
    recipe = context.recipe
    augmentation = recipe.augmentation
    if not isinstance(augmentation, L2aOptions):
        transfer = _transfer(context, student)
        return train_student(student, teacher, task, recipe.objective, recipe.compress, context.scratch, transfer)
    history, log = train_with_selector(
        student,
        teacher,
        task,
        _pool(context),
        recipe.objective,
        recipe.compress,
        augmentation.selector,
        context.scratch,
    )
    write_json(context.directory / "selector.json", log)
    draw_selector(log, context.directory, context.name)
    return history


def _pool(context: StageContext) -> Pool:
    """The pool of L2A: all training texts but the task's own labelled ones, in the order of `TrainingTexts`."""
    corpus, pool = context.corpus, load_pool(context.result("augmented"))
    if corpus.unlabelled:
        pool = pool_of_texts(len(corpus.unlabelled), source=False) + pool
    if corpus.source:
        pool = pool_of_texts(len(corpus.source), source=True) + pool
    return pool


def _transfer(context: StageContext, student: PreTrainedModel) -> TransferLoss | None:
    """The transfer loss of a meta-teacher; None if the recipe has no such loss."""
    if not context.recipe.transfer_weight:
        return None
    knowledge = DomainKnowledge.load(context.result("teacher"))
    return TransferLoss(knowledge.representation, student.config.hidden_size, context.recipe.transfer_weight)


def make_bilstm(task: StudentTask, options: BiLstmOptions) -> BiLstmStudent:
    """A BiLSTM whose first word embeddings are what the teacher makes of each token, projected to its width."""
    config = BiLstmConfig(
        vocab_size=len(task.embeddings),
        width=options.width,
        hidden=options.hidden,
        pair=task.pair,
        dropout=options.dropout,
        pad_token_id=task.train.pad_token_id,
        **label_names(task.labels),
    )
    student = BiLstmStudent(config)
    student.embeddings.weight.data.copy_(project_embeddings(task.embeddings, task.train, options.width))
    return student
