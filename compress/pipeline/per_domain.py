"""One student for each domain: the recipe runs once for every domain, and results that are the same are made once."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from compress import processes
from compress.console import console
from compress.data.corpus import load_corpus
from compress.data.domains import domain_names, student_corpus
from compress.pipeline.check import check
from compress.pipeline.run import compress, preflight_in_seconds
from compress.pipeline.stage import Latency
from compress.pipeline.stages import STUDENT, TRANSFER_SET, stage_keys
from compress.pipeline.workspace import Workspace
from compress.recipe import Recipe
from compress.recipe.sections import DomainOptions
from compress.transfer.stage import check_bank

if TYPE_CHECKING:
    from compress.pipeline.preflight import TrialExport
    from compress.teachers.judge import Int8Teacher

FOLDER = "domains"
LONGEST = 200  # characters of a folder name; file systems take 255 bytes


def domain_recipes(recipe: Recipe) -> dict[str, Recipe]:
    """The recipe of each domain's student, by domain.

    :raises UserError: the data cannot be read, or have no domains.
    """
    own = recipe.domains.model_dump(exclude={"student", "students"})
    return {
        domain: recipe.model_copy(update={"domains": DomainOptions(student=domain, **own)})
        for domain in domain_names(load_corpus(recipe.target))
    }


def folder_name(domain: str) -> str:
    """A folder name for a domain, whose own name may have characters that a file name cannot have, or be too long for one."""
    name = quote(domain, safe=" ").replace(".", "%2E")
    if len(name) <= LONGEST:
        return name
    return f"{name[:LONGEST]}-{hashlib.sha256(domain.encode()).hexdigest()[:16]}"


def domain_workspace(workspace: Workspace, domain: str) -> Workspace:
    """A domain's workspace: `domains/DOMAIN`. Results that several domains use are in `domains/.store`."""
    folder = workspace.root / FOLDER
    return Workspace(folder / folder_name(domain), store=folder / ".store")


def compress_per_domain(
    recipe: Recipe,
    workspace: Workspace,
    *,
    force: bool = False,
    latency: Latency | None = None,
    int8: Int8Teacher | None = None,
    plan: bool = False,
    trial_export: TrialExport | None = None,
) -> dict[str, Path]:
    """Make the student of every domain, unless it is up to date; returns their directories by domain.

    :param force: make all results again. A shared teacher is made once.
    :param latency: see `compress`.
    :param int8: see `compress`.
    :param plan: see `compress`; a plan for each domain.
    :param trial_export: see `compress`.
    :raises UserError: as `compress`, for any domain.
    """
    if force and processes.is_first():
        shutil.rmtree(workspace.root / FOLDER, ignore_errors=True)
    processes.barrier()
    students = {}
    recipes, corpus = domain_recipes(recipe), load_corpus(recipe.target)
    stale = {
        domain: own for domain, own in recipes.items() if not _is_current(own, domain_workspace(workspace, domain))
    }
    for own in stale.values():  # all domains, before the first one is trained
        check(own, corpus)
        check_bank(own, student_corpus(own, corpus))
    if stale:
        preflight_in_seconds(next(iter(stale.values())), corpus, workspace.root, trial_export)
    for domain, own in stale.items():
        if TRANSFER_SET.needed(
            own
        ):  # it may refuse a large bank, so that of all domains comes before the first training
            compress(own, domain_workspace(workspace, domain), until=TRANSFER_SET.name, checked=True)
    for domain, own in recipes.items():
        console.print(f"[bold]{domain}[/]")
        place = domain_workspace(workspace, domain)
        students[domain] = compress(own, place, latency=latency, int8=int8, plan=plan, checked=True)
    if recipe.domains.teacher == "all" and processes.is_first():
        _link(workspace.root / "teacher", next(iter(students.values())).parent / "teacher")
    return students


def _is_current(recipe: Recipe, workspace: Workspace) -> bool:
    return workspace.is_current_for_all(STUDENT.name, stage_keys(recipe)[STUDENT.name])


def _link(link: Path, target: Path) -> None:
    """Link to the shared teacher at the place where a recipe with one student has its teacher."""
    if not link.is_symlink():
        shutil.rmtree(link, ignore_errors=True)
    link.unlink(missing_ok=True)
    link.symlink_to(target.resolve())
