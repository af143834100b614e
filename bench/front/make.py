"""Making the students that are compared, each in a folder of its own, from one teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.front.candidates import Candidate
from compress.console import console
from compress.pipeline.run import compress
from compress.pipeline.stages import STUDENT, stage_keys
from compress.pipeline.workspace import Workspace
from compress.recipe import Recipe
from compress.students.genotype import Genotype, read_genotype
from export.build import build_bundle
from export.bundle import Bundle

FOLDER = "front"  # in the recipe's workspace


@dataclass(frozen=True)
class Made:
    """A finished student."""

    candidate: Candidate
    place: Workspace
    bundle: Bundle


def make_students(candidates: Sequence[Candidate], workspace: Workspace) -> list[Made]:
    """Make the student and the bundle of each candidate in a folder of its own, except those that are up to date.

    A stage's result that the recipe or an earlier candidate has is linked. Two convolutional candidates that come to the same
    architecture are one student.
    """
    from export.judge import int8_teacher
    from export.measure import int8_latency

    made: list[Made] = []
    architectures: dict[tuple[Genotype, str], str] = {}
    for number, candidate in enumerate(candidates, start=1):
        recipe, place = candidate.recipe, Workspace(workspace.root / FOLDER / candidate.folder)
        console.print(f"[bold]{number}/{len(candidates)} {candidate.title}[/]")
        _link_results(recipe, place, [workspace, *(other.place for other in made)])
        if candidate.family == "cnn":
            found = compress(recipe, place, until="architecture", latency=int8_latency) / "genotype.json"
            identity = read_genotype(found), _apart_from_search(recipe)
            if same := architectures.get(identity):
                console.print(f"  the same student as {same}")
                continue
            architectures[identity] = candidate.title
        compress(recipe, place, latency=int8_latency, int8=int8_teacher, checked=True)
        made.append(Made(candidate, place, build_bundle(recipe, place, "cpu", refuse=False)))
    return made


def _link_results(recipe: Recipe, place: Workspace, owners: Sequence[Workspace]) -> None:
    """Link what the student is made from, where another workspace has it."""
    for stage, key in stage_keys(recipe).items():
        owner = next((owner for owner in owners if owner.is_current(stage, key)), None)
        if stage != STUDENT.name and owner is not None and not place.is_current(stage, key):
            place.link_result(stage, owner)


def _apart_from_search(recipe: Recipe) -> str:
    """What else than the architecture decides what a convolutional student is."""
    bounds = {"max_cost": 1.0, "max_parameters": None}
    same = recipe.model_copy(
        update={
            "search": recipe.search.model_copy(update=bounds),
            "student": recipe.student.model_copy(update={"architecture": "", "max_cells": 1}),
        }
    )
    return same.model_dump_json()
