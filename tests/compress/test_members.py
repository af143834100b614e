"""A student of several members: one grouped network that computes the mean of as many students."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from compress.recipe import recipe_from
from compress.runtime.errors import UserError
from compress.students import CnnStudent, CnnStudentConfig
from compress.students.genotype import residual_genotype
from export.onnx import export_onnx
from tests.tiny_task import GENOTYPE

SINGLE = ("log_sharpness", "node_weights", "state_weights")  # weights that the members share


def make_student(members: int, pair: bool, genotype=GENOTYPE) -> CnnStudent:
    config = CnnStudentConfig(
        vocab_size=50, width=16, genotype=genotype.model_dump(mode="json"), pair=pair, pair_inputs="aligned",
        num_labels=3, members=members,
    )  # fmt: skip
    student = CnnStudent(config)
    with torch.no_grad():
        for module in student.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)
    return student.eval()


def joined(students: list[CnnStudent], pair: bool) -> CnnStudent:
    """The ensemble whose members have the weights of these students."""
    ensemble = make_student(len(students), pair)
    states = [student.state_dict() for student in students]
    merged = {}
    for name, value in ensemble.state_dict().items():
        parts = [state[name] for state in states]
        if name.endswith((*SINGLE, "num_batches_tracked")):
            merged[name] = parts[0]
        elif name.endswith("table.weight"):
            merged[name] = torch.cat(parts, dim=1)
        elif name.endswith("classifier.weight"):  # (C, k, member, width)
            kinds = [part.view(3, -1, 1, 16) for part in parts]
            merged[name] = torch.cat(kinds, dim=2).view(3, -1)
        elif name.endswith("classifier.bias"):
            merged[name] = torch.stack(parts).mean(dim=0)
        else:
            merged[name] = torch.cat(parts)
        assert merged[name].shape == value.shape, name
    ensemble.load_state_dict(merged)
    return ensemble


@pytest.mark.parametrize("pair", [False, True])
def test_the_logits_are_the_mean_of_as_many_students(pair: bool) -> None:
    torch.manual_seed(0)
    students = [make_student(1, pair) for _ in range(3)]
    ensemble = joined(students, pair)
    ids = torch.randint(0, 50, (4, 9))
    mask = (torch.arange(9) < torch.tensor([[9], [7], [5], [9]])).long()
    types = ((torch.arange(9) >= 3) & (mask > 0)).long()
    with torch.no_grad():
        expected = torch.stack([student(ids, mask, types).logits for student in students]).mean(dim=0)
        torch.testing.assert_close(ensemble(ids, mask, types).logits, expected, atol=1e-5, rtol=1e-4)
        of_members = torch.stack([cells[-1] for cells in ensemble.logits_of_members(ids, mask, types)])
        torch.testing.assert_close(of_members.mean(dim=0), expected, atol=1e-5, rtol=1e-4)
    assert of_members.std(dim=0).max() > 0.05  # three different members, not one thrice


def test_the_loss_of_a_member_reaches_its_own_weights_only() -> None:
    torch.manual_seed(0)
    ensemble = make_student(2, pair=True)
    ids = torch.randint(0, 50, (4, 9))
    types = (torch.arange(9) >= 3).long().expand(4, 9)
    ensemble.logits_of_members(ids, torch.ones_like(ids), types)[1][-1].square().sum().backward()
    table = ensemble.embeddings.table.weight.grad
    assert table is not None
    assert table[:, 16:].abs().sum() > 0
    assert table[:, :16].abs().sum() == 0


@pytest.mark.parametrize("pair", [False, True])
def test_onnx_answers_like_the_ensemble(pair: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    make_student(3, pair, residual_genotype(1)).save_pretrained(tmp_path)
    assert export_onnx(tmp_path, tmp_path / "model.onnx", pair=pair, max_length=32) < 1e-4


def test_inherited_weights_are_of_one_member() -> None:
    with pytest.raises(UserError, match="members"):
        recipe_from(
            {
                "name": "x",
                "data": {"train": "t.tsv"},
                "search": {"inherit": True},
                "student": {"members": 2, "kind": "cnn"},
            },
            "recipe",
        )
