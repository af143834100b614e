import math
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from onnxruntime import get_available_providers

from compress.objectives.layerwise import matched_layers
from compress.objectives.probes import adabert_loss, probe_distillation
from compress.pipeline.run import compress
from compress.pipeline.workspace import Workspace
from compress.recipe import load_recipe
from compress.runtime.errors import UserError
from compress.runtime.session import open_session
from compress.search.cost import CHAIN, _chain, computed_costs, costs_of, depth_shares, efficiency_loss, operation_costs
from compress.search.derive import ParetoFront, architecture_cost, cost_bound, derive, inherit
from compress.search.draw import draw_cell
from compress.search.supernet import Draw, Supernet, gumbel_gates
from compress.search.texts import split_rows
from compress.students import CnnStudent, CnnStudentConfig
from compress.students.genotype import EDGES, OPERATIONS, Genotype, random_genotype, residual_genotype
from tests.tiny_task import tiny_recipe


def make_config(**options: object) -> CnnStudentConfig:
    return CnnStudentConfig(vocab_size=40, width=16, num_labels=2, **options)  # type: ignore[arg-type]


def make_supernet(max_cells: int = 3) -> Supernet:
    torch.manual_seed(0)
    return Supernet(make_config(dropout=0.0), max_cells).eval()


def draw_of(supernet: Supernet, names: list[str], depth: int) -> Draw:
    """A draw with straight-through gates for the named operations."""
    indices = [OPERATIONS.index(name) for name in names]  # type: ignore[arg-type]
    soft, soft_depth = torch.softmax(supernet.alpha, dim=1), torch.softmax(supernet.depth, dim=0)
    hard = torch.nn.functional.one_hot(torch.tensor(indices), len(OPERATIONS)).float()
    hard_depth = torch.nn.functional.one_hot(torch.tensor(depth - 1), len(supernet.depth)).float()
    return Draw(indices, hard + soft - soft.detach(), depth, hard_depth + soft_depth - soft_depth.detach())


NAMES = ["conv3", "identity", "zero", "max_pool3", "dilated5", "avg_pool3", "conv7", "zero", "identity"]


def test_dense_and_drawn_forms_have_the_same_values_and_weight_gradients() -> None:
    supernet = make_supernet()
    ids, mask = torch.randint(0, 40, (4, 9)), torch.ones(4, 9).long()
    results = []
    for dense in (False, True):
        supernet.zero_grad()
        logits = supernet(ids, mask, None, draw_of(supernet, NAMES, 2), dense=dense)
        assert len(logits) == 2
        sum(z.square().sum() for z in logits).backward()
        weight = supernet.cells[0].edges[0][OPERATIONS.index("conv3")].conv.weight  # type: ignore[index, union-attr]
        results.append(([z.detach() for z in logits], weight.grad.clone(), supernet.alpha.grad.clone()))  # type: ignore[union-attr]
    (drawn, drawn_gradient, drawn_alpha), (full, full_gradient, full_alpha) = results
    for a, b in zip(drawn, full, strict=True):
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(drawn_gradient, full_gradient)
    # What the forms differ in: the gates of operations that were not drawn.
    assert not torch.allclose(drawn_alpha, full_alpha)


def test_a_gradient_reaches_every_architecture_weight() -> None:
    supernet = make_supernet()
    ids, mask = torch.randint(0, 40, (4, 9)), torch.ones(4, 9).long()
    logits = supernet(ids, mask, None, draw_of(supernet, NAMES, 2), dense=True)
    (sum(z.square().sum() for z in logits) + logits[-1].square().sum()).backward()
    assert supernet.alpha.grad is not None
    assert (supernet.alpha.grad != 0).all()
    assert supernet.depth.grad is not None
    assert (supernet.depth.grad != 0).all()


def test_straight_through_gates_are_one_hot_with_soft_gradients() -> None:
    torch.manual_seed(0)
    logits = torch.randn(5, 4, requires_grad=True)
    index, gates = gumbel_gates(logits, 0.5)
    assert torch.equal(gates.detach().round(decimals=5), torch.nn.functional.one_hot(index, 4).float())
    (gates * torch.arange(4.0)).sum().backward()
    assert logits.grad is not None
    assert (logits.grad.abs().sum(dim=1) > 0).all()


def test_derivation_keeps_the_two_strongest_edges_and_never_zero(tmp_path: Path) -> None:
    alpha = torch.zeros(len(EDGES), len(OPERATIONS))

    def prefer(node: int, source: int, operation: str, strength: float) -> None:
        alpha[EDGES.index((node, source)), OPERATIONS.index(operation)] = strength  # type: ignore[arg-type]

    prefer(0, 0, "conv3", 3)
    prefer(0, 1, "conv5", 2)
    prefer(1, 0, "zero", 9)  # an edge that would rather be cut
    prefer(1, 1, "identity", 1)
    prefer(1, 2, "dilated3", 2)
    prefer(2, 3, "max_pool3", 5)
    prefer(2, 2, "avg_pool3", 4)
    prefer(2, 0, "conv7", 1)
    genotype = derive(alpha, torch.tensor([0.0, 2.0, 1.0]))
    edges = [[(edge.source, edge.operation) for edge in node] for node in genotype.nodes]
    assert genotype.cells == 2
    assert edges == [
        [(0, "conv3"), (1, "conv5")],
        [(1, "identity"), (2, "dilated3")],
        [(2, "avg_pool3"), (3, "max_pool3")],
    ]
    draw_cell(genotype, tmp_path, "cell")
    drawn = (tmp_path / "cell.svg").read_text()
    assert all(f"<!-- {name} -->" in drawn for name in ("conv3", "dilated3", "avg_pool3", "input 1", "node 3"))
    assert (tmp_path / "cell.png").read_bytes().startswith(b"\x89PNG")


def test_with_a_bound_the_likeliest_architecture_that_keeps_to_it_is_derived() -> None:
    torch.manual_seed(0)
    alpha, depth = torch.randn(len(EDGES), len(OPERATIONS)), torch.randn(3)
    costs = dict(zip(OPERATIONS, torch.rand(len(OPERATIONS)).tolist(), strict=True))
    costs["identity"] = 0.0
    prices = torch.tensor([costs[name] for name in OPERATIONS])

    def likelihood(genotype: Genotype) -> float:
        p, k = torch.log_softmax(alpha, dim=1), torch.log_softmax(depth, dim=0)
        edges = sum(
            float(p[EDGES.index((node, e.source)), OPERATIONS.index(e.operation)]) for node, e in genotype.edges
        )
        return float(k[genotype.cells - 1]) + edges

    free = derive(alpha, depth)
    candidates = ParetoFront(alpha, depth, [prices])
    assert candidates.likeliest(cost_bound(1.0, 3)) == free
    before = likelihood(free)
    for bound in (0.5, 0.3, 0.1, 0.02, 0.0):
        genotype = candidates.likeliest(cost_bound(bound, 3))
        assert genotype is not None
        assert architecture_cost(genotype, costs, 3) <= bound + 1e-6
        assert likelihood(genotype) <= before + 1e-9  # a tighter bound is never likelier
        before = likelihood(genotype)
        # Nothing at random that keeps to the bound is likelier.
        for seed in range(300):
            other = random_genotype(1 + seed % 3, seed)
            assert architecture_cost(other, costs, 3) > bound or likelihood(other) <= before + 1e-9


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("pair", "pair_inputs"), [(False, "aligned"), (True, "aligned"), (True, "together"), (True, "streams")]
)
def test_a_student_that_inherits_a_supernet_has_its_logits_and_gradients(
    pair: bool, pair_inputs: str, training: bool
) -> None:
    torch.manual_seed(0)
    options = {"pair": pair, "pair_inputs": pair_inputs, "dropout": 0.2, "token_dropout": 0.1}
    supernet = Supernet(make_config(**options), 3)
    names = ["conv3", "identity", "zero", "conv5", "max_pool3", "zero", "zero", "dilated3", "avg_pool3"]
    with torch.no_grad():
        for parameter in supernet.parameters():  # node and state weights start as zeros, which tell no order apart
            parameter.add_(torch.randn_like(parameter) * 0.1)
        for edge, name in enumerate(names):
            supernet.alpha[edge, OPERATIONS.index(name)] = 4.0  # type: ignore[arg-type]
        supernet.depth[1] = 4.0
    genotype = derive(supernet.alpha, supernet.depth)
    student = CnnStudent(make_config(genotype=genotype.model_dump(mode="json"), **options))
    inherit(student, supernet)
    mask = (torch.arange(9)[None] < torch.tensor([9, 7, 4, 6])[:, None]).long()
    inputs = torch.randint(0, 40, (4, 9)), mask, (torch.arange(9)[None] >= 3) * mask if pair else None
    results = []
    for model, more in ((supernet, (supernet.likeliest(),)), (student, ())):
        model.train(training)
        torch.manual_seed(1)  # of the dropout
        logits = (model if more else model.logits_per_cell)(*inputs, *more)  # type: ignore[operator]
        sum(z.square().sum() for z in logits).backward()  # type: ignore[union-attr]
        gradients = [model.embeddings.table.weight.grad, model.cells[0].node_weights.grad]  # type: ignore[union-attr]
        results.append([*logits, *gradients])
    searched, derived = results
    assert len(searched) == len(derived) == genotype.cells + 2
    # Not equal to the bit: the supernet's sums have another memory layout, so convolutions on them round differently.
    torch.testing.assert_close(derived, searched, rtol=1e-5, atol=1e-4)


def test_random_architectures_are_drawn_by_their_seed_and_never_cut_an_edge() -> None:
    drawn = [random_genotype(2, seed) for seed in range(50)]
    assert drawn[0] == random_genotype(2, 0)
    assert len({genotype.model_dump_json() for genotype in drawn}) > 45
    used = {edge.operation for genotype in drawn for _, edge in genotype.edges}
    assert used == set(OPERATIONS) - {"zero"}
    assert all(len({edge.source for edge in node}) == len(node) == 2 for g in drawn for node in g.nodes)


def test_a_genotype_reads_only_what_is_there() -> None:
    good = residual_genotype(1).model_dump(mode="json")
    good["nodes"][0][0]["source"] = 3
    with pytest.raises(ValueError, match="node 1 must read inputs"):
        Genotype.model_validate(good)
    with pytest.raises(ValueError, match="at least 3"):
        Genotype.model_validate({"cells": 1, "nodes": good["nodes"][1:]})


def test_matched_layers_are_spread_evenly_and_end_at_the_last() -> None:
    assert matched_layers(1, 6) == [6]
    assert matched_layers(3, 6) == [2, 4, 6]
    assert matched_layers(3, 12) == [4, 8, 12]
    assert matched_layers(4, 6) == [2, 3, 5, 6]
    assert matched_layers(8, 3) == [1, 1, 1, 2, 2, 2, 3, 3]  # a teacher of few layers: none is taken from its other end


def test_probe_distillation_against_numbers_worked_by_hand() -> None:
    # Two layers; p1 = (¾, ¼), p2 = (½, ½); the label is 0, so w ∝ (¾, ½) = (0.6, 0.4). Student: q1 = (½, ½), q2 = (¼, ¾).
    probes = torch.log(torch.tensor([[[0.75, 0.25], [0.5, 0.5]]]))
    student = [torch.zeros(1, 2), torch.log(torch.tensor([[0.25, 0.75]]))]
    first = math.log(2)
    second = -(0.5 * math.log(0.25) + 0.5 * math.log(0.75))
    labels = torch.tensor([0])
    knowledge = 0.6 * first + 0.4 * second
    assert probe_distillation(student, probes, labels).item() == pytest.approx(knowledge, rel=1e-5)
    total = adabert_loss(student, probes, labels, gamma=0.8).item()
    assert total == pytest.approx(0.2 * -math.log(0.25) + 0.8 * knowledge, rel=1e-5)


def test_efficiency_is_the_share_of_the_costliest_and_pulls_the_depth() -> None:
    costs = torch.linspace(0, 1, len(OPERATIONS))
    alpha, depth = torch.zeros(len(EDGES), len(OPERATIONS)), torch.zeros(4, requires_grad=True)
    loss = efficiency_loss(alpha, depth, costs)
    assert loss.item() == pytest.approx(0.5 * 2.5 / 4, rel=1e-5)
    loss.backward()
    assert depth.grad is not None
    assert depth.grad[0] < 0 < depth.grad[3]
    costliest = torch.full_like(alpha, -50.0)
    costliest[:, -1] = 50.0
    assert efficiency_loss(costliest, torch.tensor([-50.0, 50.0]), costs).item() == pytest.approx(1.0)


def test_cells_that_see_half_of_the_positions_cost_half() -> None:
    assert depth_shares(4, 0) == pytest.approx([0.25, 0.5, 0.75, 1])  # K / K_max
    assert depth_shares(4, 1) == pytest.approx([0.25, 0.5, 0.75, 1])  # all cells see the same
    assert depth_shares(3, 2) == pytest.approx([1 / 2, 3 / 4, 1])  # 1/2, 1/4, 1/4 of the tokens
    assert depth_shares(3, 3) == pytest.approx([4 / 7, 6 / 7, 1])
    costs = dict.fromkeys(OPERATIONS, 1.0)
    for cells in (1, 2, 3):
        genotype = random_genotype(cells, 0)
        cost = architecture_cost(genotype, costs, 3, 3)
        assert cost == pytest.approx(depth_shares(3, 3)[cells - 1])
        assert cost_bound(cost, 3, 3)(cells) == pytest.approx(6)  # edges of a cell
    depth, operations = torch.zeros(3), torch.ones(len(OPERATIONS))
    loss = efficiency_loss(torch.zeros(len(EDGES), len(OPERATIONS)), depth, operations, 3)
    assert loss.item() == pytest.approx(17 / 21, rel=1e-5)


def test_computed_costs_by_hand() -> None:
    costs = computed_costs(16)
    assert costs["zero"] == costs["identity"] == 0
    assert costs["conv3"] == costs["dilated3"] == pytest.approx(3 / 7, abs=1e-4)  # size and FLOPs grow alike
    assert costs["conv7"] == 1
    assert costs["max_pool3"] == pytest.approx(3 * 16 / (2 * 7 * 16 * 16) / 2, abs=1e-4)  # no size, few FLOPs


def test_costs_are_measured_once_and_hold_time_and_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POCKETBERT_CACHE", str(tmp_path))
    costs = operation_costs(32, 24)
    assert costs["zero"] == costs["identity"] == 0
    assert max(costs.values()) <= 1
    for kernel in (3, 5, 7):  # half the cost is the size, whatever the clock says
        assert costs[f"conv{kernel}"] > kernel / 7 / 2
    assert 0 <= costs["max_pool3"] <= 0.5
    assert operation_costs(32, 24) == costs


@pytest.mark.skipif("CUDAExecutionProvider" in get_available_providers(), reason="this ONNX Runtime has CUDA")
def test_costs_on_a_gpu_that_is_not_there_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POCKETBERT_CACHE", str(tmp_path))
    recipe = load_recipe(tiny_recipe(tmp_path / "task"), ["search.cost=measured-gpu"])
    with pytest.raises(UserError, match="CUDAExecutionProvider"):
        costs_of(recipe.search, 32, 24)
    assert not (tmp_path / "costs").exists() or not list((tmp_path / "costs").iterdir())
    with pytest.raises(UserError, match="CUDAExecutionProvider"):
        compress(recipe, Workspace(tmp_path / "artifacts"))
    assert not (tmp_path / "artifacts" / "teacher").exists()  # before anything is trained


@pytest.mark.parametrize("int8", [True, False])
@pytest.mark.parametrize("name", ["identity", "conv3", "dilated5", "max_pool3", "avg_pool3"])
def test_a_timed_chain_is_that_many_operations_each_with_a_sum(name: str, int8: bool) -> None:
    graph = _chain(name, 16, 24, int8=int8).graph
    found = Counter(node.op_type for node in graph.node)
    assert found["Add"] == CHAIN
    assert found["Conv"] == 1 + CHAIN * name.startswith(("conv", "dilated"))
    assert found["MaxPool"] == CHAIN * (name == "max_pool3")
    assert found["AveragePool"] == CHAIN * (name == "avg_pool3")
    assert bool(found["QuantizeLinear"]) == int8


@pytest.mark.parametrize("name", ["identity", "max_pool3", "avg_pool3"])
def test_a_timed_chain_computes_its_operation(name: str) -> None:
    model = _chain(name, 16, 24, int8=False)
    x = np.random.default_rng(0).random((1, 16, 24), np.float32)
    (entrance,) = (numpy_helper.to_array(one) for one in model.graph.initializer if one.name == "entrance")
    first = wanted = np.maximum(entrance[:, :, 0] @ x, 0)
    for _ in range(CHAIN):
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(wanted, ((0, 0), (0, 0), (1, 1))), 3, axis=2)
        counted = np.array([2, *[3] * 22, 2])  # positions outside the text are in no mean
        pooled = {"identity": wanted, "max_pool3": windows.max(3), "avg_pool3": windows.sum(3) / counted}
        wanted = pooled[name] + first
    given = open_session(model.SerializeToString()).run(None, {"x": x})[0]
    np.testing.assert_allclose(given, wanted, rtol=1e-4)


@pytest.mark.parametrize("name", ["conv3", "max_pool3", "avg_pool3"])
def test_a_timed_int8_chain_keeps_its_channels_last_and_its_values_in_integers(name: str, tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    content = _chain(name, 16, 24, int8=True).SerializeToString()
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
    assert kinds["Transpose"] <= 2  # at the entrance and at the exit
    assert kinds["MaxPool"] == 0
    assert kinds["QuantizeLinear"] == kinds["DequantizeLinear"] == 1
    assert kinds["QLinearAdd"] == CHAIN


def test_texts_that_share_words_are_not_parted_between_weights_and_architecture() -> None:
    groups = [row // 4 for row in range(80)]
    learned, held_out = split_rows(groups, 0)
    assert sorted(learned + held_out) == list(range(80))
    assert len(held_out) == 16
    assert not {groups[row] for row in learned} & {groups[row] for row in held_out}
    assert split_rows(groups, 0) == (learned, held_out) != split_rows(groups, 1)


def test_one_large_group_of_texts_is_dealt_out() -> None:
    learned, held_out = split_rows([0] * 90 + list(range(1, 11)), 0)
    assert sorted(learned + held_out) == list(range(100))
    assert len(held_out) == 20
