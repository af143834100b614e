"""The input of the stages that train students: the training texts with the teacher's outputs."""

from __future__ import annotations

from compress.augment.texts import load_augmented
from compress.data.batches import EncodedSplit, encode_split, with_transfer_set
from compress.data.contamination import shared_text_groups
from compress.data.domains import student_corpus
from compress.data.teacher_outputs import DEV_FILE, TeacherOutputs, load_token_vectors
from compress.data.training_texts import TrainingTexts
from compress.data.transfer_set import load_transfer_set
from compress.distil.task import StudentTask
from compress.pipeline.stage import StageContext
from compress.runtime.encode import TextEncoder
from compress.teachers.finetune import open_teacher
from compress.teachers.meta import DomainKnowledge


def training_texts(context: StageContext) -> TrainingTexts:
    """The texts that the student learns from. Source texts and unlabelled texts are included if the stage declares them."""
    corpus = student_corpus(context.recipe, context.corpus)
    own = corpus.splits["train"]
    augmented = context.results.get("augmented")
    return TrainingTexts(
        own=own,
        source=corpus.source,
        unlabelled=corpus.unlabelled,
        augmented=None if augmented is None else load_augmented(augmented, own),
    )


def student_texts(context: StageContext, encoder: TextEncoder) -> EncodedSplit:
    """The student's training texts as token ids. With a meta-teacher they have their domains."""
    texts = training_texts(context)
    encoded = texts.encode(encoder)
    if context.recipe.teacher.method == "meta":
        encoded = encoded.with_domains(DomainKnowledge.load(context.result("teacher")).numbers(texts.domains))
    return encoded


def transfer_texts(context: StageContext, encoder: TextEncoder) -> EncodedSplit:
    """The transfer set as token ids.

    With a meta-teacher its texts count as texts of the student's domain, where the student has one. Where it has none, their
    domain is unknown.
    """
    encoded = encode_split(load_transfer_set(context.result("transfer_set")), encoder)
    if context.recipe.teacher.method == "meta":
        domain = context.recipe.domains.student or ""
        knowledge = DomainKnowledge.load(context.result("teacher"))
        encoded = encoded.with_domains(knowledge.numbers([domain] * len(encoded)))
    return encoded


def student_task(context: StageContext) -> StudentTask:
    """The data of a student's training."""
    model, encoder = open_teacher(context.result("teacher"), context.recipe.target.max_length)
    texts = student_texts(context, encoder)
    corpus = student_corpus(context.recipe, context.corpus)
    own, dev = corpus.splits["train"], encode_split(corpus.splits["dev"], encoder)
    if "teacher_outputs" in context.results:
        outputs = context.result("teacher_outputs")
        texts = TeacherOutputs.load(outputs).attach(texts)
        if context.recipe.objective.method != "none":
            dev = TeacherOutputs.load(outputs, DEV_FILE).attach(dev)
    embeddings = model.get_input_embeddings().weight.detach().clone()
    if context.recipe.objective.method != "none" and context.recipe.student.kind != "transformer":
        embeddings = load_token_vectors(context.result("teacher_outputs"))
    transfer = 0
    if "transfer_outputs" in context.results:
        further = TeacherOutputs.load(context.result("transfer_outputs")).attach(transfer_texts(context, encoder))
        texts, transfer = with_transfer_set(texts, further), len(further)
    return StudentTask(
        train=texts,
        transfer=transfer,
        share=context.recipe.transfer.share if transfer else 0.0,
        labelled=len(own),
        groups=shared_text_groups(own.normalised),
        dev=dev,
        labels=corpus.labels,
        pair=corpus.pair,
        embeddings=embeddings,
        seed=context.recipe.seed,
    )
