"""`python -m export`: makes a bundle that can be served from a finished student."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from compress.baselines.linear import share_of_gap
from compress.console import DEFAULT_RECIPE, ArtifactsOption, RecipeArgument, SetOption, console, run_cli
from compress.pipeline.workspace import Workspace
from compress.recipe import load_recipe
from export.bundle import DomainEntry, Manifest
from export.wishes import teacher_accuracy

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
    loaded = load_recipe(recipe, set)
    workspace = Workspace(artifacts / loaded.name)
    with workspace.locked():
        if loaded.domains.students == "per-domain":
            from export.per_domain import build_domain_bundle

            bundle = build_domain_bundle(loaded, workspace, target.value, force=force)
        else:
            from export.build import build_bundle

            bundle = build_bundle(loaded, workspace, target.value, force=force)
    for domain, entry in (bundle.manifest.domains or {}).items():
        mark = "  ← default of requests without a domain" if domain == bundle.manifest.default_domain else ""
        console.print(f"  {domain}{mark}")
        _print_models(entry, bundle.manifest)
    if bundle.manifest.domains is None:
        _print_models(bundle.manifest, bundle.manifest)
    for line in comparison(bundle.manifest):
        console.print(f"  {line}")
    console.print(f"bundle: {bundle.directory}   serve it: `bentoml serve`   measure it: `python -m bench compare`")


def comparison(manifest: Manifest) -> Iterator[str]:
    """The accuracies of teacher, linear model and default student by split, and the share of the gap that the student closes."""
    known, model = manifest.provenance, manifest.models[manifest.default]
    teacher, linear = teacher_accuracy(known), known["linear"]["accuracy"]
    for name, scores in (("teacher", teacher), ("linear model on n-grams", linear)):
        yield f"{name}: {', '.join(f'{split} {value:.2%}' for split, value in scores.items())}"
    split = known["report_split"]
    student = model.test_accuracy if split == "test" else model.dev_accuracy
    assert student is not None, "the default model was evaluated"
    share = share_of_gap(student, linear[split], teacher[split])
    closed = "there is no gap between the two" if share is None else f"{share:.0%} of the gap between the two"
    yield f"student ({manifest.default}): {split} {student:.2%}, {closed}"


def _print_models(entry: Manifest | DomainEntry, manifest: Manifest) -> None:
    for name, model in entry.models.items():
        accuracy = "not measured" if model.dev_accuracy is None else f"dev {model.dev_accuracy:.2%}"
        test = "" if model.test_accuracy is None else f", test {model.test_accuracy:.2%}"
        mark = "  ← default" if name == entry.default else ""
        console.print(f"  {name:14} {manifest.files[model.file].bytes / 1e6:6.1f} MB   {accuracy}{test}{mark}")


if __name__ == "__main__":
    run_cli(app)
