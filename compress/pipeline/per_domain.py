"""One student for each domain: the same recipe once for every domain, with what they share made once."""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.parse import quote

from compress import processes
from compress.console import console
from compress.data.corpus import domain_names, load_corpus
from compress.pipeline.run import compress
from compress.pipeline.stage import Latency
from compress.pipeline.workspace import Workspace
from compress.recipe import Recipe
from compress.recipe.sections import DomainOptions

FOLDER = "domains"


def domain_recipes(recipe: Recipe) -> dict[str, Recipe]:
    """The recipe of each domain's student, by domain.

    :raises UserError: the data cannot be used or have no domains.
    """
    own = recipe.domains.model_dump(exclude={"student", "students"})
    return {
        domain: recipe.model_copy(update={"domains": DomainOptions(student=domain, **own)})
        for domain in domain_names(load_corpus(recipe.target))
    }


def folder_name(domain: str) -> str:
    """A name for a domain's folder; the domain's own may hold what a file's may not."""
    return quote(domain, safe=" ").replace(".", "%2E")


def domain_workspace(workspace: Workspace, domain: str) -> Workspace:
    """Where a domain's artifacts are: `domains/DOMAIN` in the workspace, shared stages once in `domains/.store`."""
    folder = workspace.root / FOLDER
    return Workspace(folder / folder_name(domain), store=folder / ".store")


def compress_per_domain(
    recipe: Recipe, workspace: Workspace, *, force: bool = False, latency: Latency | None = None
) -> dict[str, Path]:
    """Make every domain's student that is not up to date; returns their directories.

    :param force: make everything anew, the shared teacher once.
    :param latency: see `compress`.
    :raises UserError: what `compress` raises, of any domain.
    """
    if force and processes.is_first():
        shutil.rmtree(workspace.root / FOLDER, ignore_errors=True)
    students = {}
    for domain, own in domain_recipes(recipe).items():
        console.print(f"[bold]{domain}[/]")
        students[domain] = compress(own, domain_workspace(workspace, domain), latency=latency)
    if recipe.domains.teacher == "all" and processes.is_first():
        _link(workspace.root / "teacher", next(iter(students.values())).parent / "teacher")
    return students


def _link(link: Path, target: Path) -> None:
    """Show the shared teacher where a recipe of one student has its own."""
    if not link.is_symlink():
        shutil.rmtree(link, ignore_errors=True)
    link.unlink(missing_ok=True)
    link.symlink_to(target.resolve())
