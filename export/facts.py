"""What is in a bundle, in figures for a reader: sizes, accuracies, verdicts of the gate, operators. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from compress.html import html_table
from export.bundle import Bundle, DomainEntry, Manifest, ModelEntry


@dataclass(frozen=True)
class ModelFacts:
    """One model of a bundle. Accuracies are fractions of 1, `drop` is in points."""

    precision: str
    domain: str | None  # the texts that it is for; None: all
    default: bool  # whether it answers if no precision is asked for
    file: str
    bytes: int
    dev_accuracy: float | None  # None: not measured
    test_accuracy: float | None
    drop: float | None  # points of dev accuracy lost against the fp32 student
    verdict: str  # of the accuracy gate: passed, failed or not measured
    note: str  # how the model was made
    operators: (
        dict[str, int] | None
    )  # nodes of the graph by kind; None: no ONNX graph, or the package onnx is not installed


@dataclass(frozen=True)
class BundleFacts:
    """What `pocketbert inspect` shows."""

    directory: str
    name: str
    created: str
    version: str  # of the pocketbert that made it
    labels: list[str]
    pair: bool
    max_length: int  # tokens
    parameters: int | None
    default_domain: str | None
    bytes: int  # of all files
    models: list[ModelFacts]
    comparison: list[str]  # student, teacher and linear model, a line each

    def as_dict(self) -> dict[str, Any]:
        """The facts as plain JSON types."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """What holds for the whole bundle."""
        kind = "pairs of texts" if self.pair else "single texts"
        size = "" if self.parameters is None else f"{self.parameters / 1e6:.2f} M parameters, "
        yield f"{self.name}: made {self.created} by pocketbert {self.version} in {self.directory}"
        yield f"{size}{self.bytes / 1e6:.1f} MB in all; {kind} of {self.max_length} tokens at most"
        yield f"{len(self.labels)} labels: {', '.join(self.labels)}"
        yield from self.comparison

    def table(self) -> tuple[list[str], list[list[str]]]:
        """The models: the header and the rows."""
        header = ["Precision", "MB", "Dev", "Test", "Lost, points", "Gate"]
        rows = [
            [
                model.precision + (" (default)" if model.default else ""),
                f"{model.bytes / 1e6:.2f}",
                _percent(model.dev_accuracy),
                _percent(model.test_accuracy),
                "–" if model.drop is None else f"{model.drop:.2f}",
                model.verdict,
            ]
            for model in self.models
        ]
        if any(model.domain for model in self.models):
            header.insert(0, "Domain")
            rows = [[str(model.domain), *row] for model, row in zip(self.models, rows, strict=True)]
        return header, rows

    def model_lines(self) -> Iterator[str]:
        """How each model was made, and the operators of its graph."""
        for model in self.models:
            of = "" if model.domain is None else f"{model.domain}, "
            yield f"{of}{model.precision}: {model.note}"
            if model.operators is not None:
                counted = ", ".join(f"{count} {kind}" for kind, count in model.operators.items())
                yield f"  {sum(model.operators.values())} operators: {counted}"
        if all(model.operators is None for model in self.models):
            yield "operators: not shown, because the package onnx is not installed; `pocketbert doctor` says how to get it"

    def __str__(self) -> str:
        header, rows = self.table()
        cells = [f"  {'  '.join(row)}" for row in (header, *rows)]
        return "\n".join([*self.lines(), *cells, *self.model_lines()])

    def _repr_html_(self) -> str:
        return html_table(*self.table(), title=" · ".join(self.lines()))


def bundle_facts(bundle: Bundle) -> BundleFacts:
    """The facts of a bundle."""
    manifest = bundle.manifest
    parts: list[tuple[str | None, Manifest | DomainEntry]] = list((manifest.domains or {}).items())
    models = [
        _model_facts(bundle, domain, name, model, default=name == part.default)
        for domain, part in parts or [(None, manifest)]
        for name, model in part.models.items()
    ]
    return BundleFacts(
        directory=str(bundle.directory),
        **manifest.model_dump(include={"name", "created", "version", "labels", "pair", "max_length", "default_domain"}),
        parameters=manifest.provenance.get("parameters"),
        bytes=sum(entry.bytes for entry in manifest.files.values()),
        models=models,
        comparison=list(comparison(manifest)),
    )


def comparison(manifest: Manifest) -> Iterator[str]:
    """The accuracies of teacher, linear model and default student by split, and the share of the gap that the student closes.

    Nothing if the bundle does not know its teacher.
    """
    known, model = manifest.provenance, manifest.models[manifest.default]
    if not {"teacher", "linear"} <= known.keys():
        return
    teacher, linear = teacher_accuracy(known), known["linear"]["accuracy"]
    for name, scores in (("teacher", teacher), ("linear model on n-grams", linear)):
        yield f"{name}: {', '.join(f'{split} {value:.2%}' for split, value in scores.items())}"
    split = known["report_split"]
    student = model.test_accuracy if split == "test" else model.dev_accuracy
    assert student is not None, "the default model was evaluated"
    share = share_of_gap(student, linear[split], teacher[split])
    closed = "there is no gap between the two" if share is None else f"{share:.0%} of the gap between the two"
    yield f"student ({manifest.default}): {split} {student:.2%}, {closed}"


def teacher_accuracy(card: dict[str, Any]) -> dict[str, float]:
    """The teacher's accuracy by split, on the texts that the student is for.

    :param card: the student's `card.json`, or the provenance in a manifest.
    """
    domain = card["recipe"].get("domains", {}).get("student")
    by_domain = card["teacher"].get("domain_accuracy")
    if domain is None or by_domain is None:
        return dict(card["teacher"]["accuracy"])
    return {split: scores[domain] for split, scores in by_domain.items()}


def share_of_gap(student: float, linear: float, teacher: float) -> float | None:
    """The share of the gap between a linear model and the teacher that the student closes; None where there is no gap.

    1: as accurate as the teacher; 0: as accurate as the linear model; below 0: worse.
    """
    return (student - linear) / (teacher - linear) if teacher > linear else None


def _model_facts(bundle: Bundle, domain: str | None, name: str, model: ModelEntry, *, default: bool) -> ModelFacts:
    return ModelFacts(
        precision=name,
        domain=domain,
        default=default,
        file=model.file,
        bytes=bundle.manifest.files[model.file].bytes,
        dev_accuracy=model.dev_accuracy,
        test_accuracy=model.test_accuracy,
        drop=model.drop,
        verdict={True: "passed", False: "failed", None: "not measured"}[model.passed],
        note=model.note,
        operators=_operators(bundle.directory / model.file),
    )


def _operators(file: Path) -> dict[str, int] | None:
    """The number of nodes of each kind in an ONNX graph, the most frequent kind first."""
    if file.suffix != ".onnx":
        return None
    try:
        import onnx
    except ModuleNotFoundError:
        return None
    graph = onnx.load(file, load_external_data=False).graph
    return dict(Counter(node.op_type for node in graph.node).most_common())


def _percent(accuracy: float | None) -> str:
    return "–" if accuracy is None else f"{accuracy:.2%}"
