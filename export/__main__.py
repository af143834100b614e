"""`python -m export`: makes a bundle that can be served from a finished student; `inspect`, `verify`, `pack` and `rebuild` take one."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compress import processes
from compress.console import DEFAULT_RECIPE, ArtifactsOption, DefaultGroup, RecipeArgument, SetOption, console, run_cli
from export.accuracy import show_accuracy
from export.commands import inspect, pack, rebuild, verify

if TYPE_CHECKING:
    from compress.recipe import Recipe
    from export.build import Target
    from export.bundle import Bundle
    from export.manifest import DomainEntry, Manifest


app = typer.Typer(cls=DefaultGroup, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.command()(inspect)
app.command()(verify)
app.command()(pack)
app.command()(rebuild)


class TargetName(StrEnum):
    """What the bundle will run on."""

    CPU = "cpu"
    TENSORRT = "tensorrt"


@app.command()
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
    from compress.recipe import load_recipe
    from export.facts import cascade_lines, comparison

    processes.require_one("export")
    bundle = export_recipe(load_recipe(recipe, set), artifacts, target.value, force=force)
    for domain, entry in (bundle.manifest.domains or {}).items():
        mark = "  ← default of requests without a domain" if domain == bundle.manifest.default_domain else ""
        console.print(f"  {domain}{mark}")
        _print_models(entry, bundle.manifest)
    if bundle.manifest.domains is None:
        _print_models(bundle.manifest, bundle.manifest)
    for line in comparison(bundle.manifest):
        console.print(f"  {line}")
    for line in cascade_lines(bundle.manifest):
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
    from compress.pipeline.workspace import Workspace

    workspace = Workspace(artifacts / recipe.name)
    with workspace.locked():
        if recipe.domains.students == "per-domain":
            from export.per_domain import build_domain_bundle

            return build_domain_bundle(recipe, workspace, target, force=force)
        from export.build import build_bundle

        return build_bundle(recipe, workspace, target, force=force)


def _print_models(entry: Manifest | DomainEntry, manifest: Manifest) -> None:
    from export.facts import describe_calibration

    for name, model in entry.models.items():
        dev, test = model.dev_accuracy, model.test_accuracy
        shown = "not measured" if dev is None else f"dev {show_accuracy(dev, model.dev_error)}"
        shown += "" if test is None else f", test {show_accuracy(test, model.test_error)}"
        mark = "  ← default" if name == entry.default else ""
        console.print(f"  {name:14} {manifest.files[model.file].bytes / 1e6:6.1f} MB   {shown}{mark}")
        if model.calibration is not None:
            console.print(f"    {describe_calibration(model.calibration)}")


if __name__ == "__main__":
    run_cli(app)
