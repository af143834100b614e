"""One search, several budgets: accuracy against latency, as a table and a plot."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from bench.environment import BUSY_SHARE, Environment, busy_share, describe
from bench.plot import COLOURS, GRID, INK
from bench.report import markdown_table, millions, significant, write_text
from bench.tables.latency import describe_machine, measure_latency
from compress.console import console
from compress.data.corpus import Corpus, load_corpus
from compress.data.files import write_json
from compress.pipeline.run import compress
from compress.pipeline.stages import stages_of
from compress.pipeline.workspace import Workspace
from compress.recipe import Recipe
from compress.recipe.sections import CnnOptions
from compress.runtime.errors import UserError
from compress.students.genotype import Genotype, read_genotype
from export.build import build_bundle
from export.bundle import Bundle

BOUNDS = (
    0.8,
    0.5,
    0.35,
    0.25,
    0.15,
    0.08,
    0.0,
)  # values of search.max_cost; each is about two thirds of the one before


@dataclass(frozen=True)
class Point:
    """One student of the sweep. Accuracies are fractions of 1, on the split for reported figures."""

    max_cost: float
    cost: float  # of its architecture, as a share of the cost of the costliest one
    architecture: str
    parameters: int
    megabytes: float  # size of the file of `precision`
    precision: str  # the bundle's default: INT8, or another one if INT8 fails the accuracy gate
    fp32_accuracy: float
    accuracy: float  # at `precision`
    latency_ms: float  # p50 at batch 1 over the task's own texts, tokenisation included, one thread
    on_front: bool = False  # on the Pareto front: no other student is both faster and at least as accurate


def sweep(recipe: Recipe, workspace: Workspace, bounds: Sequence[float] = BOUNDS) -> tuple[list[Point], Path]:
    """Search once, then train, export and time a student for each bound on the architecture's cost, the largest first.

    Two bounds with the same architecture give one student. Finished stages are not made again. The results are
    `sweep.json`, `sweep.md` and a plot in `workspace.root/sweep`.

    :param bounds: values of `search.max_cost`. The recipe's own bounds are ignored.
    :return: the students, the fastest first, and the directory of the results.
    :raises UserError: the recipe does not search, a bound is not in 0 … 1, or another process works on the recipe.
    """
    if not isinstance(recipe.student, CnnOptions) or recipe.student.architecture != "searched":
        raise UserError('student: only a searched cnn is swept; set student.kind = "cnn" and no other architecture')
    if recipe.domains.students == "per-domain":
        raise UserError("domains.students: a sweep makes students of one kind; set domains.student to one domain")
    if wrong := [bound for bound in bounds if not 0 <= bound <= 1]:
        raise UserError(f"--max-cost {wrong[0]:g}: is a share of the costliest architecture, between 0 and 1")
    corpus = load_corpus(recipe.target)
    directory = workspace.root / "sweep"
    with workspace.locked():
        last = "trials" if recipe.search.trials else "search"
        compress(recipe, workspace, until=last)
        made: dict[Genotype, tuple[Workspace, Recipe, Bundle]] = {}
        for bound in sorted(set(bounds), reverse=True):
            bounded, place = _bounded(recipe, bound), Workspace(directory / f"{bound:g}")
            names = [stage.name for stage in stages_of(bounded)]
            for stage in names[: names.index(last) + 1]:
                place.link_result(stage, workspace)
            console.print(f"[bold]search.max_cost = {bound:g}[/]")
            compress(bounded, place, until="architecture")
            genotype = read_genotype(place.root / "architecture" / "genotype.json")
            if genotype in made:
                console.print("  the same architecture as before")
                continue
            compress(bounded, place)
            made[genotype] = place, bounded, build_bundle(bounded, place, "cpu")
        _warn_if_busy()
        points = mark_front([_point(*at, corpus) for at in made.values()])
        _write(recipe, points, corpus, describe("cpu"), directory)
    return points, directory


def mark_front(points: Sequence[Point]) -> list[Point]:
    """The points, the fastest first. `on_front` marks the Pareto front of latency and accuracy."""
    marked, best = [], -1.0
    for point in sorted(points, key=lambda p: (p.latency_ms, -p.accuracy)):
        marked.append(replace(point, on_front=point.accuracy > best))
        best = max(best, point.accuracy)
    return marked


def _bounded(recipe: Recipe, bound: float) -> Recipe:
    only = {"max_cost": bound, "target_latency_ms": None, "max_parameters": None}
    return recipe.model_copy(update={"search": recipe.search.model_copy(update=only)})


def _warn_if_busy() -> None:
    share = busy_share()
    if share > BUSY_SHARE:
        console.print(
            f"  [bold yellow]latency: {share:.0%} of the CPUs are busy with other work, so the times are not valid; "
            "run the same command again when the machine is idle[/]"
        )


def _point(place: Workspace, recipe: Recipe, bundle: Bundle, corpus: Corpus) -> Point:
    with console.status("") as status:
        milliseconds, _ = measure_latency(recipe, corpus, place, teacher=False, progress=status.update)
    found = json.loads((place.root / "architecture" / "genotype.json").read_text(encoding="utf-8"))
    models = bundle.manifest.models
    precision = bundle.manifest.default
    reported = {
        name: model.test_accuracy if corpus.report_split == "test" else model.dev_accuracy
        for name, model in models.items()
    }
    card = json.loads((place.root / "student" / "card.json").read_text(encoding="utf-8"))
    genotype = Genotype.model_validate(found["genotype"])
    return Point(
        max_cost=recipe.search.max_cost,
        cost=found["cost"],
        architecture="; ".join(" + ".join(edge.operation for edge in node) for node in genotype.nodes)
        + f" × {genotype.cells}",
        parameters=card["parameters"],
        megabytes=round((bundle.directory / models[precision].file).stat().st_size / 1e6, 2),
        precision=precision,
        fp32_accuracy=reported.get("fp32") or 0.0,
        accuracy=reported[precision] or 0.0,
        latency_ms=milliseconds,
    )


def table(points: Sequence[Point]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table of the students."""
    header = ["max_cost", "Cost", "p50 ms", "Accuracy, %", "fp32, %", "Parameters", "MB", "Front", "Cell × cells"]
    rows = [
        [
            f"{p.max_cost:g}",
            f"{p.cost:.2f}",
            significant(p.latency_ms),
            f"{100 * p.accuracy:.2f}",
            f"{100 * p.fp32_accuracy:.2f}",
            millions(p.parameters),
            f"{p.megabytes:.1f}",
            "●" if p.on_front else "",
            p.architecture,
        ]
        for p in points
    ]
    return header, rows


def _write(recipe: Recipe, points: list[Point], corpus: Corpus, environment: Environment, directory: Path) -> None:
    created = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(
        directory / "sweep.json",
        {
            "name": recipe.name,
            "created": created,
            "split": corpus.report_split,
            "environment": environment.model_dump(mode="json"),
            "points": [asdict(point) for point in points],
        },
    )
    machine = f"{describe_machine(environment)} · {created[:10]}"
    write_text(
        directory / "sweep.md",
        f"# {recipe.name}: accuracy and latency\n\n{markdown_table(*table(points))}\n\n"
        f"Accuracy on {corpus.report_split} of {points[0].precision} students; p50 at batch 1 over the task's own texts, "
        f"tokenisation included, one thread; {machine}. ●: no other student is both faster and at least as accurate.\n\n"
        "![accuracy and latency](sweep.svg)\n",
    )
    _plot(recipe, points, corpus, machine, directory)


def _plot(recipe: Recipe, points: list[Point], corpus: Corpus, machine: str, directory: Path) -> None:
    from matplotlib import rc_context
    from matplotlib.figure import Figure  # not pyplot: no global state, no display

    front = [p for p in points if p.on_front]
    with rc_context({"font.family": "DejaVu Sans", "font.size": 10, "svg.hashsalt": "pocketbert", "text.color": INK}):
        figure = Figure(figsize=(7, 4.2), layout="constrained")
        axes = figure.subplots()
        axes.plot([p.latency_ms for p in front], [100 * p.accuracy for p in front], color=GRID, linewidth=2, zorder=1)
        for point in points:
            colour = COLOURS["student"] if point.on_front else COLOURS["bert"]
            place = (point.latency_ms, 100 * point.accuracy)
            axes.plot(*place, "o", color=colour, markerfacecolor=colour if point.on_front else "none", zorder=2)
            axes.annotate(f"{point.cost:.2f}", place, textcoords="offset points", xytext=(6, -10), fontsize=8.5)
        axes.set_xlabel("p50 latency, ms (batch 1, the task's own texts, tokenisation included, 1 thread)")
        axes.set_ylabel(f"{corpus.report_split} accuracy, %")
        axes.set_title(f"{recipe.name}: one search, many budgets", loc="left", fontsize=12, fontweight="bold", pad=22)
        axes.text(0, 1.03, f"Numbers: share of the costliest architecture · {machine}", transform=axes.transAxes, fontsize=8.5)  # fmt: skip
        axes.grid(color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        for suffix in ("png", "svg"):
            temporary = directory / f".sweep.{suffix}.tmp"
            figure.savefig(temporary, format=suffix, dpi=160, metadata={"Date": None} if suffix == "svg" else None)
            os.replace(temporary, directory / f"sweep.{suffix}")
