"""Architectures tried before one is chosen: what is tried, how it is judged, that it can be carried on."""

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from compress.data.batches import EncodedSplit, encode_split
from compress.data.corpus import load_corpus
from compress.distil.task import StudentTask
from compress.pipeline.run import compress
from compress.pipeline.stages import stage_keys
from compress.pipeline.workspace import Workspace
from compress.recipe import load_recipe
from compress.recipe.sections import CnnOptions, SearchOptions
from compress.runtime.encode import Encoded, TextEncoder
from compress.runtime.errors import UserError
from compress.search import trials
from compress.search.space import PaperSpace, WideSpace, mutate_cell, network_key
from compress.search.student import derived_student
from compress.search.trial import Trial, best_of, better_half, last_round, pareto_front, read_trials
from compress.students import CnnStudent, CnnStudentConfig
from compress.students.embeddings import project_embeddings
from compress.students.genotype import (
    EDGES,
    OPERATIONS,
    Edge,
    Genotype,
    identity_genotype,
    random_genotype,
    residual_genotype,
)
from compress.teachers.finetune import open_teacher
from tests.tiny_task import GENOTYPE, SEARCH, KilledError, killed_at, tiny_recipe

COSTS = {name: 0.0 if name in ("zero", "identity") else 0.5 for name in OPERATIONS} | {"conv7": 1.0}


def test_a_mutation_is_one_step_away_and_every_step_is_taken() -> None:
    rng = random.Random(0)
    parent = residual_genotype(2)
    kinds = set()
    for _ in range(300):
        child = mutate_cell(parent, 3, rng)
        Genotype.model_validate(child.model_dump())  # reads only what is there
        changed = [(a, b) for (_, a), (_, b) in zip(parent.edges, child.edges, strict=True) if a != b]
        steps = len(changed) + (child.cells != parent.cells)
        assert steps <= 1
        assert 1 <= child.cells <= 3
        for before, after in changed:
            kinds.add("operation" if before.source == after.source else "source")
        if child.cells != parent.cells:
            kinds.add(f"{child.cells} cells")
    assert kinds == {"operation", "source", "1 cells", "3 cells"}
    assert all(mutate_cell(residual_genotype(1), 1, rng).cells == 1 for _ in range(50))


def test_what_computes_the_same_is_tried_once() -> None:
    edges = Edge(source=1, operation="conv3"), Edge(source=0, operation="identity")
    others = residual_genotype(1).nodes[1:]
    one, other = (Genotype(cells=1, nodes=(node, *others)) for node in (edges, edges[::-1]))
    assert network_key(one, two_inputs=True) == network_key(other, two_inputs=True)
    # A single cell reads the same text on both inputs, unless they are a pair's.
    moved = Genotype(cells=1, nodes=((edges[0], Edge(source=1, operation="identity")), *others))
    assert network_key(one, two_inputs=False) == network_key(moved, two_inputs=False)
    assert network_key(one, two_inputs=True) != network_key(moved, two_inputs=True)
    deeper = [genotype.model_copy(update={"cells": 2}) for genotype in (one, moved)]
    assert network_key(deeper[0], two_inputs=False) != network_key(deeper[1], two_inputs=False)


def test_it_begins_with_the_smallest_the_hand_made_and_the_likeliest() -> None:
    alpha = torch.zeros(len(EDGES), len(OPERATIONS))
    alpha[:, OPERATIONS.index("conv7")] = 5.0  # likely, and dear
    first = PaperSpace(CnnOptions(), False, alpha, torch.tensor([0.0, 5.0]), COSTS).first()
    assert first[:3] == [identity_genotype(), residual_genotype(1), residual_genotype(2)]
    assert {edge.operation for _, edge in first[3].edges} == {"conv7"}
    assert len(first) == len(set(first)) > 4
    assert all(any(edge.operation != "conv7" for _, edge in genotype.edges) for genotype in first[4:])


def test_the_student_starts_anew_unless_it_is_to_inherit(tmp_path: Path) -> None:
    file = tiny_recipe(tmp_path, rows=80)
    short = ["search.trials=2", "search.trial_steps=2", "compress.epochs=1"]
    new, inherited = (load_recipe(file, [*short, f"search.inherit={value}"]) for value in ("false", "true"))
    workspace = Workspace(tmp_path / "artifacts")
    compress(new, workspace, until="architecture")
    keys, others = stage_keys(new), stage_keys(inherited)
    assert {stage for stage in keys if keys[stage] != others[stage]} == {"student"}
    corpus = load_corpus(new.target)
    encoder = TextEncoder(workspace.root / "teacher" / "tokenizer.json", 32)
    teacher, _ = open_teacher(workspace.root / "teacher", 32)
    embeddings = teacher.get_input_embeddings().weight.detach()
    train, dev = (encode_split(corpus.splits[name], encoder) for name in ("train", "dev"))
    task = StudentTask(
        train=train,
        labelled=len(train),
        groups=list(range(len(train))),
        dev=dev,
        labels=corpus.labels,
        pair=False,
        embeddings=embeddings,
        seed=0,
    )
    searched = torch.load(workspace.root / "search" / "supernet.pt", weights_only=True)["embeddings.table.weight"]
    assert isinstance(new.student, CnnOptions)
    architecture, search = (workspace.root / stage for stage in ("architecture", "search"))
    students = [derived_student(task, new.student, architecture, start) for start in (None, search)]
    tables = [student.embeddings.table.weight for student in students]
    assert torch.equal(tables[0], project_embeddings(embeddings, train, 16))
    assert torch.equal(tables[1], searched)


def test_the_price_of_cost_decides_between_good_and_cheap() -> None:
    dear = Trial(random_genotype(2, 0), cost=0.9, loss=0.40, accuracy=0.8, steps=1)
    cheap = Trial(random_genotype(1, 1), cost=0.1, loss=0.45, accuracy=0.7, steps=1)
    assert best_of([dear, cheap], 0.0) is dear
    assert best_of([dear, cheap], 0.1) is cheap
    assert best_of([], 0.1) is None


def test_a_trial_that_diverged_is_the_worst() -> None:
    texts = EncodedSplit([Encoded(ids := np.arange(6), ids * 0, ids * 0)] * 4, torch.tensor([0, 1, 0, 1]), 0)
    student = CnnStudent(CnnStudentConfig(vocab_size=9, width=8, genotype=GENOTYPE.dump(), num_labels=2)).eval()
    assert 0 < trials._held_out(student, texts)[trials.HELD_OUT_LOSS] < 9
    student.readouts[-1].classifier.weight.data.fill_(math.nan)
    diverged = Trial(GENOTYPE, 0.1, trials._held_out(student, texts)[trials.HELD_OUT_LOSS], 0.5, 1)
    good = Trial(random_genotype(2, 0), 0.2, 0.4, 0.5, 1)
    assert diverged.loss == math.inf
    assert best_of([diverged, good], 1.0) is good
    assert pareto_front([diverged, good])[-1] is good


def test_the_front_is_what_nothing_else_beats() -> None:
    costs_and_losses = [(0.5, 0.40), (0.1, 0.45), (0.3, 0.46), (0.2, 0.43), (0.2, 0.44), (0.9, 0.40)]
    trials = [Trial(random_genotype(1, i), cost, loss, 0.5, 1) for i, (cost, loss) in enumerate(costs_and_losses)]
    assert pareto_front(trials) == [trials[1], trials[3], trials[0]]
    assert pareto_front([]) == []


def test_half_of_a_round_goes_on_and_some_of_every_cost_are_in_it() -> None:
    def tried(cost: float, loss: float, steps: int = 1) -> Trial:
        return Trial(random_genotype(1, round(1000 * (cost + loss))), cost, loss, 0.5, steps)

    front = [tried(0.1, 0.5), tried(0.2, 0.4), tried(0.3, 0.3), tried(0.9, 0.2)]
    second = [tried(0.2, 0.5), tried(0.4, 0.4), tried(0.95, 0.3)]
    last = [tried(0.5, 0.6)]
    mixed = [*last, *second[::-1], *front]
    assert better_half(mixed) == front
    assert better_half([*mixed, tried(0.6, 0.7)]) == [*front, second[-1]]  # of the next front one more: its best
    assert better_half([*front, second[0]]) == [front[0], front[2], front[3]]
    assert better_half(front) == [front[0], front[3]]  # its ends
    assert better_half(front[:1]) == front[:1]
    assert better_half([]) == []
    assert last_round([tried(0.1, 0.1), tried(0.2, 0.5, 2), tried(0.3, 0.4, 2)]) == [
        tried(0.2, 0.5, 2),
        tried(0.3, 0.4, 2),
    ]
    assert last_round([]) == []


def test_rounds_train_the_better_half_for_twice_as_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tiny_recipe(tmp_path, rows=120)
    recipe = load_recipe(file, ["search.trials=7", "search.trial_steps=4", "search.rounds=3"])
    assert recipe.search.rounds_of_trials() == [(7, 4), (4, 8), (2, 16)]
    assert load_recipe(file, ["search.trials=2", "search.rounds=5"]).search.rounds_of_trials()[1:] == [(1, 20)]
    workspace = Workspace(tmp_path / "artifacts")
    compress(recipe, workspace, until="architecture")
    done = read_trials(workspace.root / "trials")
    assert [trial.steps for trial in done] == [4] * 7 + [8] * 4 + [16] * 2
    for start, number, after in ((0, 7, 4), (7, 4, 2)):
        better = better_half(done[start : start + number])
        assert [one.genotype for one in better] == [one.genotype for one in done[start + number :][:after]]
    best = best_of(done[-2:], recipe.search.beta)
    assert best
    report = json.loads((workspace.root / "architecture" / "genotype.json").read_text())
    assert (report["loss"], report["genotype"], report["tried"]) == (best.loss, best.genotype.dump(), 7)

    # Within a bound that no trial of the last round keeps to, one of the longest that do is taken.
    cheap = min(trial.cost for trial in done)
    bounded = recipe.model_copy(update={"search": recipe.search.model_copy(update={"max_cost": cheap})})
    compress(bounded, workspace, until="architecture")
    report = json.loads((workspace.root / "architecture" / "genotype.json").read_text())
    assert report["cost"] == cheap
    within = [trial for trial in done if trial.cost == cheap]
    assert report["loss"] == min(trial.loss for trial in last_round(within))

    # A run that is killed in the second round carries on there.
    killed = Workspace(tmp_path / "killed")
    with monkeypatch.context() as patch:
        patch.setattr(trials, "make_student", killed_at(9, trials.make_student))
        with pytest.raises(KilledError):
            compress(recipe, killed, until="trials")
    assert read_trials(compress(recipe, killed, until="trials")) == done


def test_a_killed_run_goes_on_where_it_was_and_ends_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(tiny_recipe(tmp_path, rows=120), ["search.trials=8", "search.trial_steps=6"])
    store = tmp_path / "store"
    whole = Workspace(tmp_path / "whole", store=store)
    done = compress(recipe, whole, until="trials")
    tried = read_trials(done)
    assert len(tried) == 8
    assert len({network_key(trial.genotype, False) for trial in tried}) == 8
    assert all(0 < trial.loss < 2 and 0 <= trial.accuracy <= 1 for trial in tried)
    assert len({trial.loss for trial in tried}) > 4

    home = store / f"trials-{stage_keys(recipe)['trials'][:16]}"
    home.rename(tmp_path / "aside")
    with monkeypatch.context() as patch:
        patch.setattr(trials, "make_student", killed_at(5, trials.make_student))
        with pytest.raises(KilledError):
            compress(recipe, Workspace(tmp_path / "killed", store=store), until="trials")
    before = json.loads((home / ".work" / "trials" / "trials.json").read_text())["trials"]
    assert len(before) == 4
    again = read_trials(compress(recipe, Workspace(tmp_path / "killed", store=store), until="trials"))
    assert again == tried


WIDTHS = [16, 24, 32]


def milliseconds(genotype: Genotype) -> float:
    """A machine on which all but the operations takes 0.1 ms."""
    assert genotype.width
    edges = sum(COSTS[edge.operation] for _, edge in genotype.edges)
    return 0.1 + genotype.cells * edges * genotype.width * (genotype.members or 1) / 2 ** (genotype.halvings or 0) / 100


@pytest.fixture
def wide() -> WideSpace:
    return WideSpace(CnnOptions(width=16, members=2, halvings=1), False, WIDTHS, milliseconds)


def test_the_wide_space_varies_cells_and_sizes_one_at_a_time(wide: WideSpace) -> None:
    rng = random.Random(0)
    parent = residual_genotype(2).model_copy(update={"width": 16, "members": 1, "halvings": 1})
    changed: set[str] = set()
    for _ in range(300):
        child = Genotype.model_validate(wide.mutate(parent, rng).dump())
        assert child.width in WIDTHS
        assert child.width * (child.members or 0) <= WIDTHS[-1]
        assert 0 <= (child.halvings or 0) <= child.cells <= 2
        names = [name for name in ("cells", "nodes", "halvings") if getattr(child, name) != getattr(parent, name)]
        names += ["shape"] if (child.width, child.members) != (parent.width, parent.members) else []
        assert len(names) <= 1
        changed |= set(names)
    assert changed == {"cells", "nodes", "halvings", "shape"}
    drawn = [wide.draw(random.Random(seed)) for seed in range(300)]
    assert {(one.width, one.members) for one in drawn} == {(16, 1), (16, 2), (24, 1), (32, 1)}
    assert {(one.cells, one.halvings) for one in drawn} == {(1, 0), (1, 1), (2, 0), (2, 1), (2, 2)}


def test_the_wide_space_begins_with_sizes_of_every_kind_and_knows_the_costliest(wide: WideSpace) -> None:
    first = wide.first()
    assert (first[0].width, first[0].members, first[0].halvings) == (16, 1, 0)
    assert (first[1].width, first[1].members, first[1].halvings) == (16, 2, 1)  # the recipe's own
    assert [(one.width, one.halvings) for one in first[2:]] == [(width, h) for h in (0, 1) for width in WIDTHS]
    assert wide.price(wide.costliest()).cost == 1.0
    rng = random.Random(1)
    assert all(milliseconds(wide.draw(rng)) <= milliseconds(wide.costliest()) for _ in range(300))
    price = wide.price(first[0])
    assert price.latency_ms == pytest.approx(0.1)
    assert 0 < price.cost < 0.1


def test_the_wide_space_varies_the_best_within_bounds_of_every_size(wide: WideSpace) -> None:
    costs_and_losses = [(0.0, 0.9), (0.001, 0.5), (0.01, 0.4), (0.1, 0.3), (0.11, 0.6), (0.5, 0.35)]  # up to 1
    tried = [Trial(random_genotype(1, i), cost, loss, 0.5, 1) for i, (cost, loss) in enumerate(costs_and_losses)]
    parents = [trials._parent(wide, tried, SearchOptions(), random.Random(seed)) for seed in range(1000)]
    counts = [parents.count(trial) for trial in tried]
    assert sum(counts[:4]) == 1000
    assert all(200 < count < 300 for count in counts[:4])  # a power of ten each
    assert trials._parent(wide, tried[-1:], SearchOptions(), random.Random(0)) is tried[-1]


@pytest.mark.parametrize("strategy", ["evolution", "random"])
def test_a_search_of_the_wide_space_gives_a_student_of_the_sizes_that_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], strategy: str
) -> None:
    monkeypatch.setenv("POCKETBERT_CACHE", str(tmp_path / "cache"))
    file = tiny_recipe(tmp_path, rows=120)
    file.write_text(file.read_text().replace(SEARCH, "[search]\n"), encoding="utf-8")
    wanted = ["search.space=wide", "search.trials=9", "search.trial_steps=4", f"search.widths={WIDTHS}"]
    wanted += [f"search.strategy={strategy}", "compress.epochs=1"]
    recipe = load_recipe(file, wanted)
    timed: list[Genotype] = []

    def latency(student: CnnStudent, **_: object) -> float:
        timed.append(Genotype.model_validate(student.config.genotype))
        assert student.embeddings.table.weight.shape[1] == (timed[-1].width or 0) * (timed[-1].members or 0)
        return milliseconds(timed[-1])

    workspace = Workspace(tmp_path / "artifacts")
    done = compress(recipe, workspace, latency=latency)  # type: ignore[arg-type]
    assert not (workspace.root / "search").exists()
    tried = read_trials(workspace.root / "trials")
    assert len({network_key(trial.genotype, False) for trial in tried}) == 9
    assert len(timed) == len(set(timed)) == 10  # each once, and the costliest
    assert all(trial.latency_ms == pytest.approx(milliseconds(trial.genotype), abs=1e-4) for trial in tried)
    report = json.loads((workspace.root / "architecture" / "genotype.json").read_text())
    found = Genotype.model_validate(report["genotype"])
    assert [one["latency_ms"] for one in report["front"]] == sorted(one["latency_ms"] for one in report["front"])
    student = CnnStudent.from_pretrained(done)
    assert (student.config.width, student.config.members, student.config.halvings) == (
        found.width, found.members, found.halvings,
    )  # fmt: skip

    # The times are kept: a run elsewhere finds the same ones, and so the same student.
    timed.clear()
    again = compress(recipe, Workspace(tmp_path / "elsewhere"), until="trials", latency=latency)  # type: ignore[arg-type]
    assert read_trials(again) == tried
    assert not timed
    # A bound takes another one of those tried, the cheapest where none keeps to it.
    cheap = load_recipe(file, [*wanted, f"search.max_cost={min(trial.cost for trial in tried)}"])
    compress(cheap, workspace, until="architecture", latency=latency)  # type: ignore[arg-type]
    report = json.loads((workspace.root / "architecture" / "genotype.json").read_text())
    assert report["cost"] == min(trial.cost for trial in tried)
    none = cheap.model_copy(update={"search": cheap.search.model_copy(update={"max_cost": 0.0})})
    compress(none, workspace, until="architecture", latency=latency)  # type: ignore[arg-type]
    assert "max_cost = 0: not met" in capsys.readouterr().err
    assert json.loads((workspace.root / "architecture" / "genotype.json").read_text())["genotype"] == report["genotype"]
    small = cheap.model_copy(update={"search": cheap.search.model_copy(update={"max_parameters": 10})})
    with pytest.raises(UserError, match=r"no student has only 10 parameters; the smallest has \d"):
        compress(small, workspace, until="architecture", latency=latency)  # type: ignore[arg-type]
