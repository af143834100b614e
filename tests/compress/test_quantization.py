"""Fine-tuning with the rounding of INT8."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from compress.distil import student as student_training
from compress.recipe import recipe_from
from compress.students import CnnStudent, CnnStudentConfig
from compress.training.evaluation import accuracy
from compress.training.quantization_aware import Rounded, rounded_activations, rounding
from tests.compress.test_distil import bert, task
from tests.tiny_task import GENOTYPE


def test_rounding_by_hand() -> None:
    weight = torch.tensor([[4.0, -1.4, 0.4], [0.4, 0.14, -0.04]])
    # 3 bits: −4 … 4, by rows of scale 1 and 0.1
    torch.testing.assert_close(Rounded(3, per_channel=True)(weight), torch.tensor([[4.0, -1.0, 0.0], [0.4, 0.1, 0.0]]))
    torch.testing.assert_close(Rounded(3, per_channel=False)(weight), torch.tensor([[4.0, -1.0, 0.0], [0.0, 0.0, 0.0]]))
    assert not Rounded(3, per_channel=True)(torch.zeros(2, 3)).any()
    # 2 bits: steps of 1 from −1 to 2
    torch.testing.assert_close(
        rounded_activations(torch.tensor([-1.0, 0.2, 0.6, 2.0]), 2), torch.tensor([-1.0, 0, 1, 2])
    )


def test_the_gradient_passes_the_rounding() -> None:
    layer = nn.Linear(3, 2)
    with rounding(layer):
        layer(torch.randn(4, 3)).sum().backward()
        gradient = layer.parametrizations.weight.original.grad  # type: ignore[union-attr,index]
    assert gradient is not None
    assert gradient.abs().min() > 0


def student() -> CnnStudent:
    torch.manual_seed(0)
    config = CnnStudentConfig(
        vocab_size=40, width=16, genotype=GENOTYPE.model_dump(mode="json"), num_labels=2, dropout=0.0
    )
    return CnnStudent(config)


def test_fine_tuning_wins_back_what_rounding_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {
        "epochs": 20,
        "batch_size": 8,
        "learning_rate": 1e-2,
        "patience": 30,
        "average": 0.0,
    }
    coarse = partial(rounding, weight_bits=1)  # −1, 0 and 1: enough to spoil a student this small
    monkeypatch.setattr(student_training, "rounding", coarse)
    data, scores = task(), []
    for epochs in (0, 30):
        chosen = {"objective": {"method": "logits"}, "compress": settings | {"quantization_epochs": epochs}}
        recipe = recipe_from({"name": "t", **chosen}, "test")
        model = student()
        names = set(model.state_dict())
        history = student_training.train_student(
            model, bert(4), data, recipe.objective, recipe.compress, tmp_path / str(epochs)
        )
        with coarse(model):
            scores.append(accuracy(model, data.dev))
        assert set(model.state_dict()) == names
        assert not any(module._forward_pre_hooks for module in model.modules())
    assert len(history) == 30
    assert scores[1] == max(epoch["metric"] for epoch in history) >= scores[0] + 0.2
