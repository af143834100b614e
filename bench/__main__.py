"""`python -m bench`: how fast and how accurate models are, against the uncompressed BERT."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.load.command import http_command
from bench.page.command import report_command
from compress import processes
from compress.console import DEFAULT_RECIPE, console, print_table, run_cli

if TYPE_CHECKING:
    from bench.tables.results import Results
    from bench.tables.runner import Planned

# The commands import what they run, so that `--help` need not wait for torch.
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


class Device(StrEnum):
    """Where the engines run."""

    cpu = "cpu"
    cuda = "cuda"


@app.callback()
def main() -> None:
    """Measure a task's models against the BERT they replace."""


@app.command("compare")
def compare_command(
    recipe: Annotated[
        Path, typer.Argument(help="The task; its teacher and bundle must have been made.")
    ] = DEFAULT_RECIPE,
    bundle: Annotated[Path | None, typer.Option(help="Measure this bundle instead of artifacts/NAME/bundle.")] = None,
    beside: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="BUNDLE", help="Measure the default model of this other bundle of the task too; give several."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, e.g. bench.seconds=1.")
    ] = None,
    only: Annotated[
        str, typer.Option(metavar="ENGINE,...", help="Measure only these, e.g. bert-torch,'student-*'.")
    ] = "",
    skip: Annotated[str, typer.Option(metavar="ENGINE,...", help="Leave these out.")] = "",
    rivals: Annotated[
        str,
        typer.Option(
            metavar="cheap|all|none|NAME,...",
            help="What else a user could take: majority class, linear models, static embeddings, frozen encoder (cheap); and transformers "
            "cut from the teacher, each trained for minutes (all). What is trained is kept in artifacts/NAME/rivals.",
        ),
    ] = "cheap",
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION",
            help="Exit status 1 if it holds for the default student, e.g. 'speedup<100' or 'teacher_share<0.97'; give several. Figures: "
            "accuracy, teacher_share, gap_share (0 to 1), speedup, p50_ms, texts_per_s (per core), file_mb.",
        ),
    ] = None,
    device: Annotated[
        Device, typer.Option(help="cuda: PyTorch fp32, bf16 and compiled bf16, and ONNX Runtime, on a GPU.")
    ] = Device.cpu,
    bert_base: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Hub id or directory of a BERT; a classifier of the task's labels is measured with its accuracy. "
            "Default: BERT-base, random weights, no network.",
        ),
    ] = None,
    bert_config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="config.json of a BERT of another size, random weights.")
    ] = None,
    optimum: Annotated[
        Path | None,
        typer.Option(
            metavar="PYTHON", help="Compare Optimum's export of BERT too, made by this interpreter: `make optimum`."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the report there instead of artifacts/NAME/bench.")
    ] = None,
) -> None:
    """Accuracy, size, latency and throughput of BERT-base, teacher, student and its cheap rivals, side by side.

    Each engine runs in its own process with pinned threads, and they take turns. BERT-base takes minutes. Keep the machine idle.
    Writes report.html (plots to explore), report.md, report.json (with every sample) and a plot; after Ctrl-C, of what was measured by
    then.
    """
    processes.require_one("bench")
    from bench.baseline import BaselineOptions
    from bench.compare import CompareOptions, compare
    from bench.conditions import Condition
    from bench.markdown import brief, notes
    from compress.recipe import load_recipe
    from export.bundle import find_bundle

    task = load_recipe(recipe, settings)
    options = CompareOptions(
        workspace=Path("artifacts") / task.name,
        source=(recipe, settings or []),
        bundle=bundle,
        beside=tuple(map(find_bundle, beside or ())),
        out=out,
        only=_names(only),
        skip=_names(skip),
        rivals=rivals,
        conditions=[Condition.parse(text) for text in fail_if or []],
        device=device.value,
        baseline=BaselineOptions(bert_base, bert_config, optimum),
    )
    report, directory = compare(task, options)
    print_table(*brief(report))
    if report.environment.warning:
        console.print(f"[bold yellow]{report.environment.warning}[/]")
    for line in notes(report):
        console.print(line, markup=False)
    console.print(f"report: {directory / 'report.html'}, {directory / 'report.md'}", markup=False)
    if report.partial:
        console.print(f"[bold yellow]interrupted:[/] the report is partial: {report.partial}")
        raise typer.Exit(130)
    _fail([said for condition in options.conditions if (said := condition.met(report))])


app.command("report")(report_command)


@app.command("diff")
def diff_command(
    old: Annotated[Path, typer.Argument(help="A report.json of `compare`, or its directory.")],
    new: Annotated[Path, typer.Argument(help="A later one of the same task.")],
    tolerance: Annotated[
        float, typer.Option(min=0, help="Times and ratios may differ by this share: two runs of one program do.")
    ] = 0.1,
) -> None:
    """What became faster or slower, more or less accurate between two reports, with 99 % bootstrap intervals.

    Exit status 1: something is worse by more than chance and, for times and ratios, by more than the tolerance; or the new report
    is partial. Times of different machines are shown but do not count; speed-ups and accuracies do.
    """
    from bench.diff import HEADER, diff, not_compared
    from bench.report import read_report

    reports = read_report(old), read_report(new)
    found = diff(*reports, tolerance=tolerance)
    print_table(HEADER, [difference.row() for difference in found])
    for report, path in zip(reports, (old, new), strict=True):
        for said in (report.environment.warning, report.partial and f"partial: {report.partial}"):
            if said:
                console.print(f"{path}: {said}", style="bold yellow", markup=False)
    for line in not_compared(*reports):
        console.print(line, markup=False)
    worse = [f"{each.engine}: {each.figure} is worse" for each in found if each.counts and each.verdict == "worse"]
    _fail([*worse, *([f"{new}: a partial report passes no check"] if reports[1].partial else [])])


app.command("http")(http_command)


@app.command("front")
def front_command(
    recipe: Annotated[Path, typer.Argument(help="The task.")] = DEFAULT_RECIPE,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the recipe.")
    ] = None,
    candidate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="'KEY=VALUE …'",
            help="The settings of one student, e.g. 'student.kind=cnn student.members=2 student.width=96'; give several. "
            "'' is the recipe's own student. Default: a list over all families.",
        ),
    ] = None,
    artifacts: Annotated[
        Path, typer.Option(metavar="DIR", help="Results go there, in a folder named after the recipe.")
    ] = Path("artifacts"),
) -> None:
    """Train students of several families from one teacher, show accuracy against latency, and take the best in the budget.

    Finished students are not made again. Keep the machine idle at the end, when all are timed.
    Writes front.md, front.json and a plot. The student that the recipe's budget takes becomes its student and bundle.
    Exit status 1: no student meets the budget.
    """
    from bench.front.candidates import default_settings, make_candidates, teacher_layers
    from bench.front.results import table as front_table
    from bench.front.run import run_front
    from compress.pipeline.workspace import Workspace
    from compress.recipe import load_recipe
    from compress.recipe.sections import BudgetOptions

    processes.require_one("front")
    loaded = load_recipe(recipe, settings)
    wanted = candidate or default_settings(loaded, teacher_layers(loaded))
    candidates = make_candidates(recipe, settings or [], wanted)
    front, directory = run_front(loaded, candidates, Workspace(artifacts / loaded.name))
    print_table(*front_table(front))
    if front.environment.warning:
        console.print(f"[bold yellow]{front.environment.warning}[/]")
    console.print(front.verdict, markup=False)
    console.print(f"table and plot: {directory / 'front.md'}")
    if front.taken is None and loaded.budget != BudgetOptions():
        raise typer.Exit(1)


@app.command("cascade")
def cascade_command(
    place: Annotated[
        Path, typer.Argument(metavar="BUNDLE_OR_RECIPE", help="A bundle, artifacts/NAME, or a recipe's file.")
    ] = DEFAULT_RECIPE,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the recipe.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the report there instead of artifacts/NAME/cascade.")
    ] = None,
    artifacts: Annotated[Path, typer.Option(metavar="DIR", help="Where a recipe's bundle is.")] = Path("artifacts"),
) -> None:
    """Accuracy and mean latency of a bundle's cascade against the share of texts that go to the teacher.

    Beside the student alone and the teacher alone, on test where there is one. Keep the machine idle.
    Writes cascade.md, cascade.json and a plot.
    """
    processes.require_one("cascade")
    from bench.cascade.plot import write_plot
    from bench.cascade.report import table as cascade_table
    from bench.cascade.report import write_report
    from bench.cascade.run import find_task, measure_cascade
    from bench.text import check_out

    recipe, bundle = find_task(place, settings or [], artifacts)
    directory = out or bundle.parent / "cascade"
    check_out(directory)
    report = measure_cascade(recipe, bundle)
    write_report(report, directory)
    write_plot(report, directory)
    print_table(*cascade_table(report))
    if report.environment.warning:
        console.print(f"[bold yellow]{report.environment.warning}[/]")
    console.print(f"table and plot: {directory / 'cascade.md'}")


@app.command("table")
def table_command(
    table: Annotated[str, typer.Argument(help="Name of a table in recipes/tables, or a .toml file.")],
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="The folder that holds the table's data.")] = None,
    only: Annotated[
        str,
        typer.Option(
            metavar="method=…,data=…,seed=…",
            help="Only these runs; each part optional, '|' between values, '*' in them.",
        ),
    ] = "",
    force: Annotated[
        bool, typer.Option("--force", help="Train finished runs again too, and compare with the values kept.")
    ] = False,
    list_only: Annotated[bool, typer.Option("--list", help="Show what would run.")] = False,
    render_only: Annotated[
        bool, typer.Option("--render", help="Show the results that are there; run nothing.")
    ] = False,
    latency: Annotated[
        bool, typer.Option(help="Measure latency after the trainings; the machine must be idle.")
    ] = True,
    results: Annotated[Path, typer.Option(metavar="DIR", help="Keep the results there.")] = Path("bench/results"),
    artifacts: Annotated[Path, typer.Option(metavar="DIR", help="Keep students and bundles there, in tables/.")] = Path(
        "artifacts"
    ),
) -> None:
    """Make a named table of methods × data sets × seeds. Finished runs are not made again.

    --force makes the student and its bundle again from the stored teacher. In a teacher's row it trains the teacher.
    Writes TABLE.json (the evidence), TABLE.md and a plot.
    """
    processes.require_one("table")
    from bench.tables.results import Results
    from bench.tables.runner import TableOptions, plan, run_table
    from bench.tables.table import load_table

    loaded = load_table(table)
    kept = Results(loaded, results)
    options = TableOptions(data, results, artifacts, only, force, latency)
    if list_only:
        _print_plan(plan(loaded, options))
        return
    failed: list[str] = []
    try:
        if not render_only:
            failed = run_table(loaded, options)
    except KeyboardInterrupt:
        if kept.path.exists():  # finished runs are kept, so show them
            _print_results(kept)
        raise
    if render_only or kept.path.exists():
        _print_results(kept)
    if failed:
        console.print(f"{len(failed)} failed:", *failed, sep="\n  ", style="bold red", markup=False)
        raise typer.Exit(1)


def _print_results(kept: Results) -> None:
    from bench.tables.render import render

    print_table(*render(kept).rows())
    console.print(f"table: {kept.path.with_suffix('.md')}")


def _print_plan(planned: list[Planned]) -> None:
    print_table(
        ["Method", "Data", "Seed", "State"], [[p.run.method, p.run.data, str(p.run.seed), p.state] for p in planned]
    )


def _fail(reasons: list[str]) -> None:
    """End with exit status 1 if there is a reason."""
    for reason in reasons:
        console.print(reason, style="bold red", markup=False)
    if reasons:
        raise typer.Exit(1)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


if __name__ == "__main__":
    run_cli(app)
