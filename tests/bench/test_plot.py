"""The plot of latency and accuracy: every label can be read."""

from itertools import combinations
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from bench.plot import _draw
from bench.report import read_report

REPORT = Path(__file__).parents[2] / "docs" / "sentiment"


def test_no_label_touches_a_line_a_point_or_another_label():
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    axes = figure.subplots()
    report = read_report(REPORT)
    _draw(axes, report)
    labels = [label for label in axes.texts if " ms" in label.get_text()]
    assert len(labels) == sum(bool(engine.cells) for engine in report.engines) > 10
    boxes = {label.get_text(): label.get_window_extent() for label in labels}
    assert [pair for pair in combinations(boxes, 2) if Bbox.intersection(boxes[pair[0]], boxes[pair[1]])] == []
    for line in axes.lines:
        points = axes.transData.transform([(x, y) for x, y in zip(*line.get_data(), strict=True)])
        upright = len(points) == 2
        for text, box in boxes.items():
            x, y = points[0]
            beside = x < box.x0 or x > box.x1
            assert beside or (not upright and (y < box.y0 or y > box.y1)), text
