"""The stages in order, each as a record. To add a stage, or an input of one, change its record in one of these files.

    transfer_set → tutor → tutor_outputs → teacher → linear → language_model → augmented → teacher_outputs → transfer_outputs
    → search → trials → architecture → student

What needs no teacher and may refuse the user's texts comes before it: trouble is met before the first training.

A record's function imports what it needs when it runs: keys are computed without torch.
"""

from __future__ import annotations

from compress.pipeline.stage import Stage
from compress.pipeline.stages.architecture import ARCHITECTURE, SEARCH, TRIALS
from compress.pipeline.stages.student import STUDENT
from compress.pipeline.stages.teachers import LINEAR, TEACHER, TUTOR, TUTOR_OUTPUTS
from compress.pipeline.stages.texts import AUGMENTED, LANGUAGE_MODEL, TEACHER_OUTPUTS, TRANSFER_OUTPUTS, TRANSFER_SET
from compress.recipe import Recipe

__all__ = ["AUGMENTED", "LINEAR", "SEARCH", "STAGES", "STUDENT", "TEACHER", "TRANSFER_SET", "stage_keys", "stages_of"]

STAGES = (
    *(
        TRANSFER_SET,
        TUTOR,
        TUTOR_OUTPUTS,
        TEACHER,
        LINEAR,
        LANGUAGE_MODEL,
        AUGMENTED,
        TEACHER_OUTPUTS,
        TRANSFER_OUTPUTS,
    ),
    *(SEARCH, TRIALS, ARCHITECTURE, STUDENT),
)


def stages_of(recipe: Recipe) -> list[Stage]:
    """The stages that this recipe needs, in order."""
    return [stage for stage in STAGES if stage.needed(recipe)]


def stage_keys(recipe: Recipe) -> dict[str, str]:
    """The key of each stage of a recipe, in order: what its result is made from. Imports no torch.

    :raises UserError: a file that the recipe names is missing.
    """
    keys: dict[str, str] = {}
    for stage in stages_of(recipe):
        keys[stage.name] = stage.key(recipe, keys)
    return keys
