"""What is in a bundle, in figures for a reader: sizes, accuracies, verdicts of the gate, operators, origin. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from compress.html import html_table
from compress.runtime.encode import TextEncoder
from export.accuracy import show_accuracy, standard_error
from export.bundle import Bundle
from export.manifest import Attempt, Calibration, ClassAccuracy, Manifest, ModelEntry, Route
from export.profile import OperatorShare, Profile, profile_model

SHOWN_OPERATORS, SHOWN_CLASSES = 6, 3  # in a line for people; JSON has all
SHOWN_VERSIONS = ("onnxruntime", "tokenizers", "torch", "transformers")


@dataclass(frozen=True)
class ModelFacts:
    """One model of a bundle. Accuracies and their standard errors are fractions of 1, `drop` is in points."""

    precision: str
    domain: str | None  # the texts that it is for; None: all
    default: bool  # whether it answers if no precision is asked for
    file: str
    bytes: int
    dev_accuracy: float | None  # None: not measured
    test_accuracy: float | None
    dev_error: float | None
    test_error: float | None
    drop: float | None  # points of dev accuracy lost against the fp32 student
    agreement: float | None  # share of the dev texts that get the label that the fp32 student gives them
    calibration: str | None  # what was done to its scores, and their calibration error; None: nothing
    verdict: str  # of the accuracy gate: passed, failed or not measured
    note: str  # how the model was made
    float_layers: list[str]
    attempts: list[Attempt]
    classes: list[ClassAccuracy]  # on dev; those that lost most come first
    nodes: (
        int | None
    )  # of the graph that ONNX Runtime runs, after its optimisation; None: an engine, which it does not run
    conv_share: (
        float | None
    )  # of the model's time that convolutions take, at one text of 128 tokens; measured now and here
    operators: list[OperatorShare]  # the slowest first


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
    provenance: dict[str, Any]  # recipe, seed, hashes of data and files, versions of the packages
    cascade: list[str]  # what the teacher in the bundle answers, a line for each precision; empty: there is none

    def as_dict(self) -> dict[str, Any]:
        """The facts as plain JSON types."""
        facts = asdict(self)
        for model in facts["models"]:
            for name in ("attempts", "classes"):
                model[name] = [part.model_dump(mode="json") for part in model[name]]
        return facts

    def lines(self) -> Iterator[str]:
        """What holds for the whole bundle."""
        kind = "pairs of texts" if self.pair else "single texts"
        size = "" if self.parameters is None else f"{self.parameters / 1e6:.2f} M parameters, "
        yield f"{self.name}: made {self.created} by pocketbert {self.version} in {self.directory}"
        yield f"{size}{self.bytes / 1e6:.1f} MB in all; {kind} of {self.max_length} tokens at most"
        yield f"{len(self.labels)} labels: {', '.join(self.labels)}"
        yield _origin(self.provenance)
        yield from self.comparison
        yield from self.cascade

    def table(self) -> tuple[list[str], list[list[str]]]:
        """The models: the header and the rows."""
        header = ["Precision", "MB", "Dev", "Test", "Lost, points", "As in fp32", "Gate"]
        rows = [
            [
                model.precision + (" (default)" if model.default else ""),
                f"{model.bytes / 1e6:.2f}",
                show_accuracy(model.dev_accuracy, model.dev_error),
                show_accuracy(model.test_accuracy, model.test_error),
                "–" if model.drop is None else f"{model.drop:.2f}",
                "–" if model.agreement is None else f"{model.agreement:.2%}",
                model.verdict,
            ]
            for model in self.models
        ]
        if any(model.domain for model in self.models):
            header.insert(0, "Domain")
            rows = [[str(model.domain), *row] for model, row in zip(self.models, rows, strict=True)]
        return header, rows

    def model_lines(self) -> Iterator[str]:
        """How each model was made, what it lost where, and the operators of its graph."""
        for model in self.models:
            of = "" if model.domain is None else f"{model.domain}, "
            yield f"{of}{model.precision}: {model.note}"
            if model.calibration is not None:
                yield f"  {model.calibration}"
            for attempt in model.attempts:
                if not attempt.passed:
                    yield f"  failed: {_shown(attempt)}"
            if lost := [one for one in model.classes if one.drop > 0][:SHOWN_CLASSES]:
                shown = ", ".join(f"{c.label} {c.drop:.2f} points ({c.accuracy:.1%} of {c.texts} texts)" for c in lost)
                yield f"  lost most: {shown}"
            if model.operators:
                first = model.operators[:SHOWN_OPERATORS]
                counted = ", ".join(f"{one.nodes} {one.operator} ({one.precision}, {one.share:.0%})" for one in first)
                more = ", …" if len(model.operators) > SHOWN_OPERATORS else ""
                yield f"  {model.nodes} nodes, {model.conv_share:.0%} of the time in convolutions: {counted}{more}"

    def __str__(self) -> str:
        header, rows = self.table()
        cells = [f"  {'  '.join(row)}" for row in (header, *rows)]
        return "\n".join([*self.lines(), *cells, *self.model_lines()])

    def _repr_html_(self) -> str:
        return html_table(*self.table(), title=" · ".join(self.lines()))


def bundle_facts(bundle: Bundle) -> BundleFacts:
    """The facts of a bundle. Its models are run for a fraction of a second each.

    :raises UserError: ONNX Runtime cannot load one of them.
    """
    manifest = bundle.manifest
    models = [
        _model_facts(bundle, domain, name, model, default=name == part.default)
        for domain, part in bundle.parts.items()
        for name, model in part.models.items()
    ]
    return BundleFacts(
        directory=str(bundle.directory),
        **manifest.model_dump(include={"name", "created", "version", "labels", "pair", "max_length", "default_domain"}),
        parameters=manifest.provenance.get("parameters"),
        bytes=sum(entry.bytes for entry in manifest.files.values()),
        models=models,
        comparison=list(comparison(manifest)),
        provenance=_provenance(manifest),
        cascade=list(cascade_lines(manifest)),
    )


def comparison(manifest: Manifest) -> Iterator[str]:
    """The accuracies of teacher, linear model and default student by split, and the share of the gap that the student closes.

    Nothing if the bundle does not know its teacher.
    """
    known, model = manifest.provenance, manifest.models[manifest.default]
    if not {"teacher", "linear"} <= known.keys():
        return
    teacher, linear = teacher_accuracy(known), known["linear"]["accuracy"]
    sizes = known.get("sizes", {})
    for name, scores in (("teacher", teacher), ("linear model on n-grams", linear)):
        shown = {s: show_accuracy(v, standard_error(v, sizes[s]) if s in sizes else None) for s, v in scores.items()}
        yield f"{name}: {', '.join(f'{split} {value}' for split, value in shown.items())}"
    split = known["report_split"]
    on_test = split == "test"
    student, error = (model.test_accuracy, model.test_error) if on_test else (model.dev_accuracy, model.dev_error)
    assert student is not None, "the default model was evaluated"
    share = share_of_gap(student, linear[split], teacher[split])
    closed = "there is no gap between the two" if share is None else f"{share:.0%} of the gap between the two"
    yield f"student ({manifest.default}): {split} {show_accuracy(student, error)}, {closed}"


def cascade_lines(manifest: Manifest) -> Iterator[str]:
    """The teacher in the bundle, and what each threshold does on dev. Nothing if there is no cascade."""
    for domain, part in manifest.parts.items():
        if (cascade := part.cascade) is None:
            continue
        size, of = manifest.files[cascade.teacher.file].bytes / 1e6, "" if domain is None else f" of {domain}"
        yield f"cascade{of}: the teacher in {cascade.precision}, {size:.1f} MB, answers texts of which the student is unsure"
        for precision, route in cascade.routes.items():
            yield f"  with {precision}: {describe_route(route)}"


def describe_route(route: Route) -> str:
    """What a threshold does on dev, in a few words."""
    chosen = route.chosen
    return (
        f"scores up to {chosen.threshold:.4f}, {chosen.share:.1%} of dev, go to the teacher: accuracy {chosen.accuracy:.2%} "
        f"(student {route.curve[0].accuracy:.2%}, teacher {route.curve[-1].accuracy:.2%}), {chosen.ms:.3g} ms on average "
        f"({route.student_ms:.3g}, {route.teacher_ms:.3g})"
    )


def describe_calibration(calibration: Calibration) -> str:
    """The temperature, and the ECE before and after it by split, in a few words."""
    errors = [
        f"{split} {before:.3f} → {calibration.ece_after[split]:.3f}" for split, before in calibration.ece_before.items()
    ]
    return f"scores: temperature {calibration.temperature:.3f}, calibration error (ECE) {', '.join(errors)}"


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
    profile = _profile(bundle, model)
    return ModelFacts(
        precision=name,
        domain=domain,
        default=default,
        file=model.file,
        bytes=bundle.manifest.files[model.file].bytes,
        dev_accuracy=model.dev_accuracy,
        test_accuracy=model.test_accuracy,
        dev_error=model.dev_error,
        test_error=model.test_error,
        drop=model.drop,
        agreement=model.agreement,
        calibration=describe_calibration(model.calibration) if model.calibration else None,
        verdict={True: "passed", False: "failed", None: "not measured"}[model.passed],
        note=model.note,
        float_layers=model.float_layers,
        attempts=model.attempts,
        classes=model.classes,
        nodes=profile.nodes if profile else None,
        conv_share=profile.conv_share if profile else None,
        operators=profile.operators if profile else [],
    )


def _profile(bundle: Bundle, model: ModelEntry) -> Profile | None:
    if model.runtime != "onnxruntime":
        return None
    manifest = bundle.manifest
    vocabulary = TextEncoder(bundle.tokenizer_file, manifest.max_length).tokenizer.get_vocab_size()
    return profile_model(bundle.directory / model.file, manifest.max_length, manifest.pad_token_id, vocabulary)


def _provenance(manifest: Manifest) -> dict[str, Any]:
    """What the bundle was made from and with."""
    known = manifest.provenance
    return {
        "recipe": known.get("recipe"),
        "seed": known.get("seed"),
        "data": known.get("data"),  # the hash of the tables
        "teacher": known.get("teacher", {}).get("model"),
        "versions": manifest.versions,
        "files": {name: entry.sha256 for name, entry in manifest.files.items()},
    }


def _origin(provenance: dict[str, Any]) -> str:
    """The provenance in one line."""
    recipe = (provenance["recipe"] or {}).get("name", "not recorded")
    parts = [f"recipe {recipe}"]
    parts += [f"{name} {provenance[name]}" for name in ("seed", "teacher") if provenance[name] is not None]
    if provenance["data"]:
        parts.append(f"data {provenance['data'][:12]}")
    parts += [f"{name} {version}" for name, version in provenance["versions"].items() if name in SHOWN_VERSIONS]
    return f"made from {', '.join(parts)}"


def _shown(attempt: Attempt) -> str:
    layers = f", {len(attempt.float_layers)} in float" if attempt.float_layers else ""
    return f"{attempt.quantisation}{layers}: lost {attempt.drop:.2f} points, {attempt.agreement:.2%} as in fp32"
