"""From Python what `pocketbert compress`, `export` and `inspect` do: the same functions, with results to look at."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.html import html_table
from compress.recipe import Recipe, load_recipe
from compress.runtime.errors import UserError
from export.bundle import Bundle, find_bundle
from export.facts import BundleFacts, bundle_facts

if TYPE_CHECKING:
    from export.build import Target

ARTIFACTS = "artifacts"


@dataclass(frozen=True)
class Student:
    """The student of a recipe, or those of its domains. Accuracies are fractions of 1."""

    name: str  # of the recipe
    workspace: Path  # the results of all stages
    cards: dict[
        str | None, dict[str, Any]
    ]  # the `card.json` of each domain's student; one student for all texts: key None

    def table(self) -> tuple[list[str], list[list[str]]]:
        """The accuracies on dev: the header and the rows."""
        header = ["Student", "Parameters, M", "Dev", "Teacher's dev", "Linear model's dev"]
        return header, [
            [
                self.name if domain is None else domain,
                f"{card['parameters'] / 1e6:.2f}",
                _best(card["history"]),
                f"{card['teacher']['accuracy']['dev']:.2%}",
                f"{card['linear']['accuracy']['dev']:.2%}",
            ]
            for domain, card in self.cards.items()
        ]

    def __str__(self) -> str:
        header, rows = self.table()
        return "\n".join("  ".join(row) for row in (header, *rows))

    def _repr_html_(self) -> str:
        return html_table(*self.table(), title=f"{self.name}, in {self.workspace}")


def compress(recipe: Recipe | str | Path, *, artifacts: str | Path = ARTIFACTS, force: bool = False) -> Student:
    """Make the student of a recipe, as `pocketbert compress` does. What is up to date is not made again.

    :param recipe: a recipe, or the path of its file.
    :param artifacts: the directory for the results; each recipe has a folder there.
    :param force: make every stage again.
    :raises UserError: a mistake in the recipe or in the data, or another run is at work there.
    """
    from compress.__main__ import compress_recipe

    loaded = _loaded(recipe)
    root = compress_recipe(loaded, Path(artifacts), force=force).root
    return Student(loaded.name, root, dict(_cards(loaded, root)))


def export(
    recipe: Recipe | str | Path,
    *,
    target: Target = "cpu",
    artifacts: str | Path = ARTIFACTS,
    force: bool = False,
) -> BundleFacts:
    """Make a bundle from a finished student, as `pocketbert export` does.

    :param recipe: a recipe, or the path of its file.
    :param target: "tensorrt" adds a Q/DQ graph and an engine to the CPU's models.
    :param artifacts: the directory that holds the results of `compress`.
    :param force: export anew even if the bundle is up to date.
    :raises UserError: there is no finished student, or it is refused.
    """
    from export.__main__ import export_recipe

    return bundle_facts(export_recipe(_loaded(recipe), Path(artifacts), target, force=force))


def inspect(bundle: str | Path | None = None) -> BundleFacts:
    """Sizes, accuracies and verdicts of a bundle. Its files are checked.

    :param bundle: the directory of a bundle, or `artifacts/NAME`. None: the newest bundle in `artifacts`.
    :raises UserError: there is no bundle, or a file of it is corrupt.
    """
    return bundle_facts(Bundle(find_bundle(None if bundle is None else Path(bundle))))


def _best(history: list[dict[str, float]]) -> str:
    """The dev accuracy of the epoch that was kept."""
    measured = [epoch["dev accuracy"] for epoch in history if "dev accuracy" in epoch]
    return f"{max(measured):.2%}" if measured else "–"


def _loaded(recipe: Recipe | str | Path) -> Recipe:
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, str | Path):
        return load_recipe(Path(recipe))
    raise UserError(f"recipe: {recipe!r} is neither a Recipe nor the path of a recipe's file")


def _cards(recipe: Recipe, root: Path) -> Iterator[tuple[str | None, dict[str, Any]]]:
    folders: dict[str | None, Path] = {None: root}
    if recipe.domains.students == "per-domain":
        from compress.pipeline.per_domain import domain_recipes, domain_workspace
        from compress.pipeline.workspace import Workspace

        folders = {domain: domain_workspace(Workspace(root), domain).root for domain in domain_recipes(recipe)}
    for domain, folder in folders.items():
        yield domain, json.loads((folder / "student" / "card.json").read_text(encoding="utf-8"))
