"""Plots of a meta-teacher: the texts of its domains in two dimensions, and the prototype scores."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from compress.data.corpus import Corpus

POINTS = 1000  # most points in a plot
EXAMPLES = 3  # for each class, with the highest and with the lowest scores


def draw_domains(before: Tensor, after: Tensor, domains: Tensor, names: list[str], directory: Path) -> None:
    """Write `domains.png`: the texts by domain, before and after the training, on their two principal components.

    :param before: features of the encoder before the training, (N, d).
    :param after: features of the meta-teacher, (N, d).
    :param domains: numbers of the texts' domains in `names`, (N,).
    """
    from matplotlib.figure import Figure  # not pyplot: no global state, no display

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    panels = figure.subplots(1, 2)
    rows = torch.randperm(len(domains), generator=torch.Generator().manual_seed(0))[:POINTS]
    for axes, features, title in zip(panels, (before, after), ("before", "after"), strict=True):
        points = project(features)[rows]
        for number, name in enumerate(names):
            x, y = points[domains[rows] == number].T
            axes.scatter(x, y, s=8, alpha=0.6, label=name)
        axes.set_title(f"{title} meta-teacher training", fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
    panels[0].legend(fontsize=8)
    figure.savefig(directory / "domains.png", dpi=120)


def project(features: Tensor) -> Tensor:
    """The projection of features (N, d) on their two principal components, (N, 2)."""
    centred = (features - features.mean(dim=0)).double()
    _, _, components = torch.linalg.svd(centred, full_matrices=False)
    return centred @ components[:2].T


def show_prototype_scores(scores: Tensor, corpus: Corpus, directory: Path) -> None:
    """Write `prototype_scores.png` and `prototype_scores.md`.

    The plot shows the distribution of the scores in each class. The text has the examples of each class with the highest
    and the lowest scores.

    :param scores: t(x) of the training texts, (N,).
    """
    from matplotlib.figure import Figure

    labels = torch.tensor(corpus.splits["train"].labels)
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    edges = torch.linspace(float(scores.min()), float(scores.max()), 41).tolist()
    lines = ["# Prototype scores", "", "![Their distribution in each class](prototype_scores.png)", ""]
    for number, label in enumerate(corpus.labels):
        rows = (labels == number).nonzero().squeeze(1)
        axes.hist(scores[rows].tolist(), bins=edges, histtype="step", linewidth=1.6, label=label)
        order = rows[scores[rows].argsort(descending=True, stable=True)].tolist()
        for title, chosen in (("highest", order[:EXAMPLES]), ("lowest", order[::-1][:EXAMPLES])):
            lines += [f"## {label}, {title}", ""]
            lines += [f"- {float(scores[row]):.3f}: {_described(corpus, row)}" for row in chosen]
            lines += [""]
    axes.set_xlabel("prototype score t(x)")
    axes.set_ylabel("training texts")
    axes.legend(fontsize=8)
    figure.savefig(directory / "prototype_scores.png", dpi=120)
    (directory / "prototype_scores.md").write_text("\n".join(lines), encoding="utf-8")


def _described(corpus: Corpus, row: int) -> str:
    train = corpus.splits["train"]
    texts = [train.texts[row], *([train.texts_b[row]] if train.texts_b else [])]
    domain = train.domains[row] if train.domains else ""
    return f"({domain}) {' | '.join(' '.join(text.split()) for text in texts)}"
