"""The architecture within what the user can afford: cost, parameters, milliseconds."""

import json
from pathlib import Path

import pytest
import torch

from compress.data.corpus import Corpus, Split
from compress.pipeline.stage import StageContext, TaskTexts
from compress.pipeline.stages.architecture import ARCHITECTURE, make_architecture
from compress.recipe import Recipe, load_recipe, recipe_from
from compress.recipe.keys import restricted
from compress.recipe.sections import CnnOptions
from compress.runtime.encode import TextEncoder
from compress.runtime.errors import UserError
from compress.search.architecture import choose_architecture, random_genotype_of_cost
from compress.search.derive import ParetoFront, architecture_cost, cost_bound
from compress.search.selection import operation_sizes
from compress.students import CnnStudent
from compress.students.genotype import EDGES, OPERATIONS, Genotype, identity_genotype, random_genotype
from tests.tiny_task import DOMAIN_RECIPE, domain_sentences, tiny_teacher, write_tsv

SPLIT = Split(["good film", "bad film"], None, [1, 0], None)
CORPUS = Corpus(["negative", "positive"], {"train": SPLIT, "dev": SPLIT})
COSTS = {name: round(number / 10, 2) for number, name in enumerate(sorted(OPERATIONS, key=lambda n: n != "identity"))}
COSTS |= {"zero": 0.0, "identity": 0.0}
WIDTH, VOCABULARY = 16, 50


@pytest.fixture
def search(tmp_path: Path) -> Path:
    """A search that likes costly operations and depth."""
    generator = torch.Generator().manual_seed(3)
    prices = torch.tensor([COSTS[name] for name in OPERATIONS])
    alpha = torch.randn(len(EDGES), len(OPERATIONS), generator=generator) + 3 * prices
    found = {
        "costs": COSTS,
        "probabilities": torch.softmax(alpha, dim=1).tolist(),
        "depth_probabilities": torch.softmax(torch.tensor([0.0, 0.5, 1.0]), dim=0).tolist(),
    }
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "search.json").write_text(json.dumps(found))
    return tmp_path


def choose(search: Path, measure: object = None, trials: int = 0, **bounds: object) -> dict[str, object]:
    """What `genotype.json` says."""
    budget = {name: bounds.pop(name) for name in ("target_latency_ms",) if name in bounds}
    student = {"kind": "cnn", "width": WIDTH, "max_cells": 3}
    recipe = recipe_from(
        {"name": "t", "student": student, "search": {"trials": trials, **bounds}, "budget": budget}, "a test"
    )
    tokenizer = tiny_teacher(search / "bert") / "tokenizer.json"
    artifacts = {stage: search / stage for stage in ("search", "trials")}
    encoder = TextEncoder(tokenizer, 32)
    choose_architecture(recipe, CORPUS, encoder, VOCABULARY, artifacts, search, measure, title="t")  # type: ignore[arg-type]
    return json.loads((search / "genotype.json").read_text())


def milliseconds(student: CnnStudent) -> float:
    """A machine on which an operation takes its cost in milliseconds, and everything else 0.1 ms."""
    genotype = Genotype.model_validate(student.config.genotype)
    return 0.1 + genotype.cells * sum(COSTS[edge.operation] for _, edge in genotype.edges)


def test_of_all_that_keeps_to_two_bounds_the_likeliest_is_derived() -> None:
    generator = torch.Generator().manual_seed(0)
    alpha, depth = torch.randn(len(EDGES), len(OPERATIONS), generator=generator), torch.randn(3, generator=generator)
    prices = torch.tensor([COSTS[name] for name in OPERATIONS])
    sizes = operation_sizes(CnnOptions(width=WIDTH))
    bounds = [(prices, cost_bound(0.3, 3)), (sizes, lambda cells: 5000 / cells)]

    def likelihood(genotype: Genotype) -> float:
        p, k = torch.log_softmax(alpha, dim=1), torch.log_softmax(depth, dim=0)
        places = [(EDGES.index((node, e.source)), OPERATIONS.index(e.operation)) for node, e in genotype.edges]
        return float(k[genotype.cells - 1]) + sum(float(p[place]) for place in places)

    def keeps(genotype: Genotype) -> bool:
        edges = [OPERATIONS.index(edge.operation) for _, edge in genotype.edges]
        return all(float(price[edges].sum()) <= bound(genotype.cells) + 1e-6 for price, bound in bounds)

    best = ParetoFront(alpha, depth, [price for price, _ in bounds]).likeliest(*(bound for _, bound in bounds))
    assert best is not None
    assert keeps(best)
    others = [random_genotype(1 + seed % 3, seed) for seed in range(3000)]
    allowed = [other for other in others if keeps(other)]
    assert len(allowed) > 100
    assert max(map(likelihood, allowed)) <= likelihood(best) + 1e-6
    assert ParetoFront(alpha, depth, [prices]).likeliest(lambda cells: -1.0) is None


def test_the_costliest_that_is_fast_enough_is_taken(search: Path) -> None:
    free = choose(search)
    slowest = milliseconds_of(free)
    assert choose(search, milliseconds, target_latency_ms=slowest + 1)["genotype"] == free["genotype"]
    for target in (0.8 * slowest, 0.5 * slowest, 0.2 * slowest):
        chosen = choose(search, milliseconds, target_latency_ms=target)
        assert chosen["target_met"] is True
        assert chosen["latency_ms"] == pytest.approx(milliseconds_of(chosen), abs=1e-3)
        # Not much of the target is left unused: operations come in steps.
        assert target - 3 * max(COSTS.values()) <= milliseconds_of(chosen) <= target


def test_the_student_of_a_domain_is_timed_on_its_texts(search: Path) -> None:
    header = ("text", "label", "domain")
    write_tsv(search / "train.tsv", domain_sentences(60), header)
    write_tsv(search / "dev.tsv", domain_sentences(30, seed=1), header)
    student = f'[student]\nkind = "cnn"\nwidth = {WIDTH}\nmax_cells = 3\n[search]\ntrials = 0\n'
    file = search / "domains.toml"
    file.write_text(f"{DOMAIN_RECIPE}{student}[budget]\ntarget_latency_ms = 9.0\n", encoding="utf-8")
    tiny_teacher(search / "bert")
    recipe, seen = load_recipe(file, ["domains.student=films"]), []

    def latency(student: CnnStudent, *, tokenizer: Path, recipe: Recipe, corpus: Corpus) -> float:
        seen.append(set(corpus.splits["dev"].domains or []))
        return 1.0

    context = StageContext(
        stage=ARCHITECTURE,
        recipe=restricted(recipe, ARCHITECTURE.declared(recipe)),
        task=TaskTexts(recipe),
        results={"teacher": search / "bert", "search": search / "search"},
        directory=search,
        scratch=search,
        latency=latency,  # type: ignore[arg-type]
        int8=None,
        name="t",
    )
    make_architecture(context)
    assert seen
    assert all(domains == {"films"} for domains in seen)


def test_a_target_that_nothing_meets_is_told(search: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = choose(search, milliseconds, target_latency_ms=0.05)
    assert chosen["target_met"] is False
    assert chosen["cost"] == 0
    assert "not met" in capsys.readouterr().err


def test_parameters_are_those_of_the_whole_student(search: Path) -> None:
    free = choose(search)
    parameters = free["parameters"]
    assert isinstance(parameters, int)
    student = CnnStudent(config_of(free))
    assert parameters == sum(weight.numel() for weight in student.parameters())
    fewer = choose(search, max_parameters=parameters - 1)
    assert fewer["parameters"] <= parameters - 1  # type: ignore[operator]
    assert fewer["genotype"] != free["genotype"]
    with pytest.raises(UserError, match=r"no student has only 500 parameters; the smallest has [\d,]+"):
        choose(search, max_parameters=500)


def test_of_what_was_tried_the_best_within_the_bounds_is_taken(search: Path) -> None:
    tried = [identity_genotype(), *(random_genotype(1 + seed % 3, seed) for seed in range(29))]
    costs = [architecture_cost(genotype, COSTS, 3) for genotype in tried]
    # A higher cost gives a lower loss, except that one trial of medium cost has the lowest loss of all.
    best = costs.index(sorted(costs)[10])
    losses = [0.5 - 0.01 * cost for cost in costs]
    losses[best] = 0.3
    entries = [
        {"genotype": genotype.dump(), "cost": cost, "loss": loss, "accuracy": 0.8, "steps": 200}
        for genotype, cost, loss in zip(tried, costs, losses, strict=True)
    ]
    (search / "trials").mkdir()
    (search / "trials" / "trials.json").write_text(json.dumps({"trials": entries}))
    assert choose(search, trials=30)["genotype"] == entries[best]["genotype"]
    front = choose(search, trials=30)["front"]
    # Each of the front is what its own cost as the bound gives.
    assert [choose(search, trials=30, max_cost=one["cost"])["loss"] for one in front] == [one["loss"] for one in front]
    assert (front[0]["cost"], front[-1]["loss"]) == (0.0, losses[best])
    timed = choose(search, milliseconds, trials=30)["front"]
    assert [{k: v for k, v in one.items() if k != "latency_ms"} for one in timed] == front
    by_text = {str(genotype): milliseconds_of({"genotype": genotype}) for genotype in tried}
    assert [one["latency_ms"] for one in timed] == [pytest.approx(by_text[one["genotype"]], abs=1e-4) for one in timed]
    bound = costs[best] - 1e-6
    within = max(cost for cost in costs if cost <= bound)
    bounded = choose(search, trials=30, max_cost=bound)
    assert bounded["cost"] == pytest.approx(within, abs=1e-4)
    assert (bounded["loss"], bounded["tried"]) == (losses[costs.index(within)], 30)
    target = milliseconds_of(choose(search, trials=30)) - 1e-3
    fast = choose(search, milliseconds, trials=30, target_latency_ms=target)
    assert fast["target_met"] is True
    assert fast["loss"] == min(
        loss for genotype, loss in zip(tried, losses, strict=True) if milliseconds_of({"genotype": genotype}) <= target
    )


def test_a_random_architecture_can_be_as_dear_as_a_searched_one() -> None:
    found = [random_genotype_of_cost(CnnOptions(max_cells=3), seed, COSTS, 0.3) for seed in range(20)]
    assert all(0.285 <= architecture_cost(genotype, COSTS, 3) <= 0.3 for genotype in found)
    assert len(set(found)) == 20
    assert len({genotype.cells for genotype in found}) > 1
    assert found[0] == random_genotype_of_cost(CnnOptions(max_cells=3), 0, COSTS, 0.3)
    with pytest.raises(UserError, match=r"none of 20,000 random architectures costs 0\.001"):
        random_genotype_of_cost(CnnOptions(max_cells=3), 0, COSTS, 0.001)


def milliseconds_of(chosen: dict[str, object]) -> float:
    return milliseconds(CnnStudent(config_of(chosen)))


def config_of(chosen: dict[str, object]):  # type: ignore[no-untyped-def]
    from compress.students import CnnStudentConfig

    genotype = Genotype.model_validate(chosen["genotype"]).dump()
    return CnnStudentConfig(vocab_size=VOCABULARY, width=WIDTH, genotype=genotype, num_labels=2)  # type: ignore[arg-type]
