"""One search for several budgets, on a small task."""

import json
from pathlib import Path

import pytest

from bench.sweep import Point, mark_front, sweep
from compress.pipeline.workspace import Workspace
from compress.recipe import load_recipe
from compress.recipe.sections import CnnOptions
from compress.runtime.errors import UserError
from export.bundle import Bundle
from tests.tiny_task import tiny_recipe


def point(latency_ms: float, accuracy: float) -> Point:
    return Point(1.0, 0.5, "", 100, 0.1, "int8", accuracy, accuracy, latency_ms)


def test_no_other_point_is_faster_and_more_accurate_than_one_on_the_front() -> None:
    points = [point(3, 0.9), point(1, 0.7), point(2, 0.7), point(2.5, 0.85), point(2.5, 0.8), point(4, 0.89)]
    marked = mark_front(points)
    assert [(p.latency_ms, p.accuracy) for p in marked if p.on_front] == [(1, 0.7), (2.5, 0.85), (3, 0.9)]
    assert [p.latency_ms for p in marked] == [1, 2, 2.5, 2.5, 3, 4]


def test_a_sweep_searches_once_and_trains_each_architecture_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = load_recipe(tiny_recipe(tmp_path), ["bench.texts=10", "search.max_cost=0.3"])
    workspace = Workspace(tmp_path / "artifacts" / "tiny")
    points, directory = sweep(recipe, workspace, [1.0, 0.999, 0.0])
    told = capsys.readouterr().err
    assert told.count("▸ search") == 1
    assert "the same architecture as before" in told
    assert len(points) == 2
    costs = {p.max_cost: p.cost for p in points}
    assert costs[0.0] == 0
    assert costs[1.0] > 0
    for p in points:
        bundle = Bundle(directory / f"{p.max_cost:g}" / "bundle")
        assert bundle.manifest.models[p.precision].dev_accuracy == p.accuracy
    assert json.loads((directory / "sweep.json").read_text())["points"][0]["latency_ms"] == points[0].latency_ms
    assert "●" in (directory / "sweep.md").read_text()
    assert (directory / "sweep.svg").stat().st_size > 1000
    sweep(recipe, workspace, [1.0, 0.0])
    assert "▸" not in capsys.readouterr().err  # nothing is made again


def test_what_cannot_be_swept_is_refused(tmp_path: Path) -> None:
    file = tiny_recipe(tmp_path)
    workspace = Workspace(tmp_path / "artifacts")
    by_hand = CnnOptions(architecture="residual")
    with pytest.raises(UserError, match="only a searched cnn is swept"):
        sweep(load_recipe(file).model_copy(update={"student": by_hand}), workspace)
    with pytest.raises(UserError, match="between 0 and 1"):
        sweep(load_recipe(file), workspace, [2.0])
