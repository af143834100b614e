"""Choose the architecture of a convolutional student: searched, random, hand-made, or read from a file."""

from __future__ import annotations

import random
import statistics
from pathlib import Path
from typing import Any

from compress.console import console
from compress.data.corpus import Corpus
from compress.data.files import write_json
from compress.recipe import Recipe
from compress.recipe.sections import CnnOptions
from compress.runtime.encode import TextEncoder
from compress.runtime.errors import UserError
from compress.search.cost import costs_of
from compress.search.derive import architecture_cost
from compress.search.draw import draw_cell
from compress.search.selection import Measure, StudentFactory, select_searched
from compress.students.genotype import Genotype, random_genotype, read_genotype, residual_genotype

MAX_DRAWS = 20_000  # random architectures tried until one has the wanted cost


def choose_architecture(
    recipe: Recipe,
    corpus: Corpus,
    encoder: TextEncoder,
    vocabulary: int,
    artifacts: dict[str, Path],
    directory: Path,
    measure: Measure | None,
    *,
    title: str,
) -> None:
    """Choose the architecture that `student.architecture` asks for.

    Writes `genotype.json` and a drawing of the cell to `directory`.

    :param encoder: the teacher's tokenizer, which is also the student's.
    :param vocabulary: number of token ids that have an embedding.
    :param artifacts: the directory of the stage `search`, if the recipe searches, and of `trials`, if it has trials.
    :param title: stands above the drawing.
    :param measure: needed if the recipe has a target latency. It also tells the times of what the search has tried.
    :raises UserError: the given file holds no genotype, or every student is too large.
    """
    options = recipe.student
    assert isinstance(options, CnnOptions), "only a cnn has an architecture"
    if options.architecture == "searched":
        students = StudentFactory(options, vocabulary, len(corpus.labels), corpus.pair)
        genotype, report = select_searched(artifacts, recipe.search, students, recipe.budget.target_latency_ms, measure)
    elif options.architecture == "random":
        genotype, report = _random_architecture(recipe, options, corpus, encoder)
    elif options.architecture == "residual":
        genotype, report = residual_genotype(options.max_cells), {}
    else:
        genotype, report = read_genotype(Path(options.architecture)), {}
    share = f", {report['cost']:.0%} of the costliest" if "cost" in report else ""
    console.print(f"  {options.architecture}: {genotype}{share}")
    if front := report.get("front"):
        timed = "latency_ms" in front[0]
        settings = "search.max_cost or budget.target_latency_ms" if timed else "search.max_cost"
        console.print(f"  the best of those tried; {settings} takes another one, without a new search:")
        for one in front:
            milliseconds = f"  {one['latency_ms']:5.3f} ms in INT8" if timed else ""
            chosen = "  ← taken" if one["genotype"] == str(genotype) else ""
            console.print(f"  {one['cost']:5.0%}{milliseconds}  loss {one['loss']:.4f}{chosen}")
    draw_cell(genotype, directory, f"{title}: cell × {genotype.cells}")
    content = {"genotype": genotype.dump(), "architecture": options.architecture, **report}
    write_json(directory / "genotype.json", content)


def random_genotype_of_cost(options: CnnOptions, seed: int, costs: dict[str, float], max_cost: float) -> Genotype:
    """A random architecture that costs 95 % to 100 % of `max_cost`: the baseline of a search with that bound.

    :param costs: the cost of each operation, in [0, 1].
    :raises UserError: no architecture of that cost was drawn.
    """
    rng = random.Random(f"genotype of cost/{seed}")
    for draw in range(MAX_DRAWS):
        genotype = random_genotype(rng.randint(1, options.max_cells), f"{seed}/{draw}")
        if 0.95 * max_cost <= architecture_cost(genotype, costs, options.max_cells, options.halvings) <= max_cost:
            return genotype
    raise UserError(
        f"search.max_cost: none of {MAX_DRAWS:,} random architectures costs {max_cost:g} of the costliest one"
    )


def _random_architecture(
    recipe: Recipe, options: CnnOptions, corpus: Corpus, encoder: TextEncoder
) -> tuple[Genotype, dict[str, Any]]:
    """A random architecture and its report for `genotype.json`. With a bound on the cost, it has about that cost."""
    max_cost = recipe.search.max_cost
    if max_cost == 1:
        return random_genotype(options.max_cells, recipe.seed), {}
    costs = costs_of(recipe.search, options.width, _median_length(corpus, encoder))
    genotype = random_genotype_of_cost(options, recipe.seed, costs, max_cost)
    cost = architecture_cost(genotype, costs, options.max_cells, options.halvings)
    return genotype, {"cost": round(cost, 4), "max_cost": max_cost}


def _median_length(corpus: Corpus, encoder: TextEncoder) -> int:
    """Median number of tokens of the training texts."""
    train = corpus.splits["train"]
    return int(statistics.median(len(e) for e in encoder.encode(train.texts, train.texts_b)))
