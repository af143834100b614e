"""Whether a recipe's parts fit together, before anything is trained."""

from __future__ import annotations

from compress.data.corpus import Corpus
from compress.data.domains import student_corpus, teacher_corpus
from compress.pipeline.stages import SEARCH
from compress.recipe import Recipe
from compress.recipe.sections import CbertOptions, TransformerOptions
from compress.runtime.errors import UserError
from compress.runtime.session import check_device


def check(recipe: Recipe, corpus: Corpus) -> None:
    """Check student, objective and teacher, as far as their configurations show whether they fit.

    :raises UserError: they do not; the message names the setting.
    """
    of_student = student_corpus(recipe, corpus)  # before torch is imported: a mistake in the data shows at once
    teacher_corpus(recipe, corpus)
    section = recipe.target.section
    if recipe.target.distil_unlabelled and not of_student.unlabelled:
        raise UserError(
            f"{section}.distil_unlabelled: there are no unlabelled texts; name their table in {section}.unlabelled, or "
            f"leave training texts without their labels by {section}.train_limit"
        )
    if recipe.transfer.texts and recipe.transfer.bank != "embedded":
        from compress.transfer.bank import read_bank

        if not read_bank(recipe.transfer.bank, recipe.target):
            raise UserError(f"transfer.bank: {recipe.transfer.bank}: has no texts")
    if SEARCH.needed(recipe) and recipe.search.cost == "measured-gpu":
        check_device("cuda")
    inputs = getattr(recipe.student, "pair_inputs", "aligned")
    if inputs != "aligned" and not of_student.pair:
        raise UserError(
            f'student.pair_inputs: "{inputs}" is for pairs of texts, and these data have one text; set {section}.text_b or leave it out'
        )
    if isinstance(recipe.augmentation, CbertOptions):
        from compress.augment.train_masked_lm import check_token_types
        from compress.data.assets import model_source

        check_token_types(model_source(recipe.teacher.model))
    if isinstance(recipe.student, TransformerOptions):
        from compress.distil.check import check_objective
        from compress.students.transformer import student_config
        from compress.teachers.finetune import classifier_config

        teacher = classifier_config(recipe.teacher, corpus.labels)
        check_objective(recipe.objective, student_config(recipe.student, teacher), teacher)
