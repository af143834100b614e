"""`python -m compress`: make a small, fast student from labelled texts and a BERT."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compress import processes
from compress.console import DEFAULT_RECIPE, ArtifactsOption, RecipeArgument, SetOption, run_cli
from compress.runtime.errors import UserError

if TYPE_CHECKING:
    from compress.pipeline.workspace import Workspace
    from compress.recipe import Recipe

# The commands import what they run, so that `--help` need not wait for the schema of recipes.
app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)


@app.command()
def run(
    recipe: RecipeArgument = DEFAULT_RECIPE,
    set: SetOption = [],  # noqa: B006 - typer copies the default
    artifacts: ArtifactsOption = Path("artifacts"),
    force: Annotated[bool, typer.Option(help="make every stage again")] = False,
    count: Annotated[
        int,
        typer.Option("--processes", metavar="N", min=1, help="processes that train together, one on each GPU"),
    ] = 1,
) -> None:
    """Make the student, or one for each domain.

    The stages: fine-tune the teacher, augment the texts, compute the teacher's outputs, search an architecture (cnn only),
    train the student. What they will take is forecast first, as by `plan`.
    """
    from compress.recipe import load_recipe

    loaded = load_recipe(recipe, set)
    if count == 1:
        compress_recipe(loaded, artifacts, force=force)
        return
    from compress.processes.launch import launch

    options = [*(f"--set={pair}" for pair in set), f"--artifacts={artifacts}", *(["--force"] if force else [])]
    raise typer.Exit(launch(count, ["-m", "compress", "run", *options, "--", str(recipe)]))


def compress_recipe(recipe: Recipe, artifacts: Path, *, force: bool = False) -> Workspace:
    """Make what `run` makes, in `artifacts/NAME`; returns that workspace.

    :param force: make every stage again.
    :raises UserError: as `compress.pipeline.run.compress`, or another run is at work there.
    """
    from compress.pipeline.workspace import Workspace

    workspace = Workspace(artifacts / recipe.name)
    with workspace.locked():
        from compress.pipeline.per_domain import compress_per_domain
        from compress.pipeline.run import compress
        from export.judge import int8_teacher
        from export.measure import int8_latency
        from export.trial import trial_export

        make = compress_per_domain if recipe.domains.students == "per-domain" else compress
        make(
            recipe,
            workspace,
            force=force,
            latency=int8_latency,
            int8=int8_teacher,
            trial_export=trial_export,
            plan=True,
        )
    return workspace


@app.command(name="plan")
def show_plan(
    recipe: RecipeArgument = DEFAULT_RECIPE,
    set: SetOption = [],  # noqa: B006
    artifacts: ArtifactsOption = Path("artifacts"),
    force: Annotated[bool, typer.Option(help="as if every stage were made again")] = False,
) -> None:
    """Print the stages that `run` would make, with a forecast of their times on this machine. Trains nothing."""
    from compress.pipeline.check import check
    from compress.pipeline.per_domain import domain_recipes, domain_workspace
    from compress.pipeline.plan import make_plan
    from compress.pipeline.stage import TaskTexts
    from compress.pipeline.stages import STUDENT, stage_keys
    from compress.pipeline.workspace import Workspace
    from compress.recipe import load_recipe

    processes.require_one("plan")
    loaded = load_recipe(recipe, set)
    workspace = Workspace(artifacts / loaded.name)
    runs = {"": (loaded, workspace)}
    if loaded.domains.students == "per-domain":
        runs = {name: (own, domain_workspace(workspace, name)) for name, own in domain_recipes(loaded).items()}
    for name, (own, place) in runs.items():
        task = TaskTexts(own)
        key = stage_keys(own)[STUDENT.name]  # before the texts are read: it names a missing file by its setting
        if force or not place.is_current(STUDENT.name, key):
            from compress.pipeline.preflight import preflight

            check(own, task.corpus)
            preflight(own, task.corpus)  # a model that cannot be trained cannot be timed either
        for line in ([name] if name else []) + list(make_plan(own, place, task, force=force).lines()):
            typer.echo(line)


@app.command()
def augment(
    recipe: RecipeArgument = DEFAULT_RECIPE,
    named: Annotated[Path | None, typer.Option("--recipe", help="the task, as an option")] = None,
    set: SetOption = [],  # noqa: B006
    artifacts: ArtifactsOption = Path("artifacts"),
    show: Annotated[int, typer.Option(min=0, help="number of random examples to print")] = 20,
) -> None:
    """Make the teacher and the augmented texts, and print some: original → new text, log-likelihood, teacher's label."""
    from compress.pipeline.workspace import Workspace
    from compress.recipe import load_recipe

    processes.require_one("augment")
    if named is not None and recipe != DEFAULT_RECIPE:
        raise UserError(f"--recipe: give one recipe, {named} or {recipe}")
    loaded = load_recipe(named or recipe, set)
    if loaded.domains.students == "per-domain":
        raise UserError(
            "domains.students: a student for each domain has texts of its own; name one with domains.student"
        )
    if loaded.augmentation.method == "none":
        raise UserError(
            "augmentation.method: 'none' makes no texts; choose another, e.g. --set augmentation.method=eda"
        )
    workspace = Workspace(artifacts / loaded.name)
    with workspace.locked():
        from compress.pipeline.examples import shown_examples
        from compress.pipeline.run import compress

        compress(loaded, workspace, until="augmented")
        for block in shown_examples(loaded, workspace.root, show):
            typer.echo(block)


@app.command(name="recipe")
def show_recipe(recipe: RecipeArgument = DEFAULT_RECIPE, set: SetOption = []) -> None:  # noqa: B006
    """Check a recipe and print it with all defaults."""
    from compress.recipe import load_recipe

    typer.echo(load_recipe(recipe, set).model_dump_json(indent=2))


if __name__ == "__main__":
    run_cli(app)
