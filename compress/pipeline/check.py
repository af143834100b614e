"""Whether a recipe fits the task's texts, before anything is trained. Imports no torch."""

from __future__ import annotations

from compress.console import console
from compress.data.corpus import Corpus
from compress.data.domains import student_corpus, teacher_corpus
from compress.pipeline.stages import SEARCH
from compress.recipe import Recipe
from compress.recipe.sections import MaskedLmOptions
from compress.runtime.errors import UserError
from compress.runtime.session import check_device


def check(recipe: Recipe, corpus: Corpus) -> None:
    """Check the recipe against the task's texts. Models are looked at in `compress.pipeline.preflight`.

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
    if recipe.target.unlabelled and not (
        recipe.target.distil_unlabelled or isinstance(recipe.augmentation, MaskedLmOptions)
    ):
        console.print(
            f"  [bold yellow]{section}.unlabelled: nothing learns from these texts in this recipe[/]; set {section}.distil_unlabelled = true, "
            "or take an augmentation with a language model, such as l2a"
        )
    for name, model in (("teacher", recipe.teacher), ("tutor", recipe.tutor)):
        if model.fine_tuned and (unused := model.changed_training()):
            console.print(
                f"  [bold yellow]{', '.join(f'{name}.{key}' for key in unused)}: no effect with {name}.fine_tuned = true[/], "
                "since the model is not trained"
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
