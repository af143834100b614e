"""The students that are compared: a default list over the families, or those of the command line."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from compress.pipeline.stages import stage_keys
from compress.recipe import Recipe
from compress.recipe.load import load_variant
from compress.recipe.sections import BiLstmOptions, TransformerOptions
from compress.runtime.errors import UserError

OWN = "recipe"  # folder of the recipe's own student
# Convolutional students made by hand: members × width, cells of three convolutions, halvings.
_RESIDUAL = (
    *((1, 64, 1, 1), (1, 128, 1, 1), (1, 128, 2, 1), (2, 96, 1, 1), (4, 64, 1, 1)),
    *((2, 128, 1, 1), (2, 128, 1, 0), (1, 256, 1, 1), (3, 128, 1, 1)),
)
_COPIED_LAYERS = (1, 2, 3)
_WIDE_COSTS = (0.06, 0.1, 0.2, 0.4)  # bounds at which the search of a wide space gives students, without another search


@dataclass(frozen=True)
class Candidate:
    """A student to be compared."""

    settings: tuple[str, ...]  # in which it differs from the recipe
    recipe: Recipe
    title: str

    @property
    def family(self) -> str:
        """`student.kind`."""
        return self.recipe.student.kind

    @property
    def folder(self) -> str:
        """Name of its folder. It does not change if the recipe does, so that results are found again."""
        short = (setting.removeprefix("student.") for setting in self.settings)
        return quote(" ".join(short), safe=" =,") or OWN


def default_settings(recipe: Recipe, teacher_layers: int) -> list[str]:
    """The recipe's own student, searched cnns, cnns made by hand, layers of the teacher, and a BiLSTM.

    :param teacher_layers: number of the teacher's layers; a student has fewer.
    """
    searched = recipe.student.kind == "cnn" and recipe.student.architecture == "searched"
    costs = _WIDE_COSTS if searched and recipe.search.space == "wide" else ()
    return [
        "",
        *(f"search.max_cost={cost}" for cost in costs if cost != recipe.search.max_cost),
        *([] if searched else ["student.kind=cnn student.architecture=searched"]),
        *(
            f"student.kind=cnn student.architecture=residual student.members={m} student.width={w} student.max_cells={c} student.halvings={h}"
            for m, w, c, h in _RESIDUAL
        ),
        *(f"student.kind=transformer student.layers={n}" for n in _COPIED_LAYERS if n < teacher_layers),
        "student.kind=bilstm",
    ]


def teacher_layers(recipe: Recipe) -> int:
    """Number of layers of the recipe's teacher.

    :raises UserError: there is no such model.
    """
    from compress.teachers.checkpoint import open_config

    return int(open_config(recipe.teacher).num_hidden_layers)


def make_candidates(path: Path, overrides: list[str], wanted: Sequence[str]) -> list[Candidate]:
    """The candidates, each once.

    :param path: the recipe's file.
    :param overrides: the recipe's `--set`.
    :param wanted: the settings of each candidate, separated by spaces; "" is the recipe's own student.
    :raises UserError: the settings of one are wrong, or it has another teacher or other labelled texts than the recipe.
    """
    keys = stage_keys(load_variant(path, overrides, []))
    made: list[Candidate] = []
    for text in dict.fromkeys(wanted):
        try:
            settings = tuple(shlex.split(text))
        except ValueError:
            raise UserError(f"--candidate '{text}': a quotation mark is not closed") from None
        try:
            recipe = load_variant(path, overrides, list(settings))
        except UserError as error:
            raise UserError(f"--candidate '{text}': {str(error).removeprefix('--set ')}") from None
        if any(stage_keys(recipe)[stage] != keys[stage] for stage in ("teacher", "linear")):
            raise UserError(
                f"--candidate '{text}': students are compared on one task, with one teacher; a setting of it belongs to --set"
            )
        if all(recipe != other.recipe for other in made):
            made.append(Candidate(settings, recipe, _title(recipe, settings)))
    titles = [candidate.title for candidate in made]
    return [
        replace(c, title=f"{c.title} ({', '.join(c.settings)})") if titles.count(c.title) > 1 and c.settings else c
        for c in made
    ]


def _title(recipe: Recipe, settings: Sequence[str]) -> str:
    """The student in a few words, with the candidate's settings that are not about its shape."""
    further = [setting for setting in settings if not setting.startswith("student.")]
    return "; ".join([_shape(recipe), *further])


def _shape(recipe: Recipe) -> str:
    student = recipe.student
    if isinstance(student, BiLstmOptions):
        return f"BiLSTM {student.width}, {student.hidden}"
    if isinstance(student, TransformerOptions):
        origin = {"teacher": "of the teacher", "pretrained": "of the encoder"}.get(student.init, student.init)
        return f"transformer, {student.layers} layer{'s' if student.layers > 1 else ''} {origin}"
    if student.architecture == "searched" and recipe.search.space == "wide":
        return "CNN, searched in the wide space"
    size = f"CNN {student.members} × {student.width}" if student.members > 1 else f"CNN {student.width}"
    if student.halvings:
        size += f" at 1/{2 ** min(student.halvings, student.max_cells)} of the positions"
    if student.architecture in ("residual", "random"):
        return f"{size}, {student.architecture}, {student.max_cells} cell{'s' if student.max_cells > 1 else ''}"
    return f"{size}, {student.architecture if student.architecture == 'searched' else Path(student.architecture).stem}"
