"""`python -m export`: makes a bundle that can be served from a finished student."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compress.console import DEFAULT_RECIPE, ArtifactsOption, RecipeArgument, SetOption, console, run_cli
from compress.pipeline.workspace import Workspace
from compress.recipe import Recipe, load_recipe
from export.bundle import Bundle, DomainEntry, Manifest
from export.facts import comparison

if TYPE_CHECKING:
    from export.build import Target

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class TargetName(StrEnum):
    """What the bundle will run on."""

    CPU = "cpu"
    TENSORRT = "tensorrt"


@app.command(help=__doc__)
def run(
    recipe: RecipeArgument = DEFAULT_RECIPE,
    target: Annotated[
        TargetName, typer.Option(help="tensorrt adds a Q/DQ graph and an engine to the CPU's models")
    ] = TargetName.CPU,
    set: SetOption = [],  # noqa: B006 - typer copies the default
    artifacts: ArtifactsOption = Path("artifacts"),
    force: Annotated[bool, typer.Option(help="export anew even if the bundle is up to date")] = False,
) -> None:
    """Export the student, check its accuracy and write the bundle."""
    bundle = export_recipe(load_recipe(recipe, set), artifacts, target.value, force=force)
    for domain, entry in (bundle.manifest.domains or {}).items():
        mark = "  ← default of requests without a domain" if domain == bundle.manifest.default_domain else ""
        console.print(f"  {domain}{mark}")
        _print_models(entry, bundle.manifest)
    if bundle.manifest.domains is None:
        _print_models(bundle.manifest, bundle.manifest)
    for line in comparison(bundle.manifest):
        console.print(f"  {line}")
    given = "" if recipe == DEFAULT_RECIPE else f" {recipe}"
    console.print(f"bundle: {bundle.directory}")
    console.print(f"  ask it:     pocketbert predict {bundle.directory} 'a text'", markup=False)
    console.print(f"  serve it:   pocketbert serve {bundle.directory}", markup=False)
    console.print(f"  measure it: pocketbert bench{given}", markup=False)


def export_recipe(recipe: Recipe, artifacts: Path, target: Target = "cpu", *, force: bool = False) -> Bundle:
    """Export the student of a recipe, or those of its domains, into `artifacts/NAME/bundle`.

    :param force: export anew even if the bundle is up to date.
    :raises UserError: as `export.build.build_bundle`, or another run is at work there.
    """
    workspace = Workspace(artifacts / recipe.name)
    with workspace.locked():
        if recipe.domains.students == "per-domain":
            from export.per_domain import build_domain_bundle

            return build_domain_bundle(recipe, workspace, target, force=force)
        from export.build import build_bundle

        return build_bundle(recipe, workspace, target, force=force)


def _print_models(entry: Manifest | DomainEntry, manifest: Manifest) -> None:
    for name, model in entry.models.items():
        accuracy = "not measured" if model.dev_accuracy is None else f"dev {model.dev_accuracy:.2%}"
        test = "" if model.test_accuracy is None else f", test {model.test_accuracy:.2%}"
        mark = "  ← default" if name == entry.default else ""
        console.print(f"  {name:14} {manifest.files[model.file].bytes / 1e6:6.1f} MB   {accuracy}{test}{mark}")


if __name__ == "__main__":
    run_cli(app)
