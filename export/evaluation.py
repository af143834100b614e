"""The accuracy of a bundle on labelled texts of the user's: a table, or the dev texts of a recipe. No torch for a table."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compress.data.corpus import Split
from compress.data.domains import load_student_corpus, texts_of_domains
from compress.data.tables import read_table
from compress.recipe.sections import TextOptions
from compress.runtime.errors import UserError
from export.accuracy import show_accuracy, standard_error
from export.bundle import Bundle
from export.manifest import Manifest, ModelEntry
from export.session import BundleSession, is_for

READING = ("text", "text_b", "label", "domain", "quoting", "separator", "encoding")  # settings of the section `data`


@dataclass(frozen=True)
class LabelledTexts:
    """Texts with the numbers of their labels in the bundle."""

    place: str  # where they are from, for messages
    split: Split
    are_dev: bool  # the very texts on which the gate measured

    def of_domain(self, domain: str | None) -> Split:
        """The texts of a domain. None: all.

        :raises UserError: there are none.
        """
        if domain is None:
            return self.split
        found = texts_of_domains(self.split, {domain})
        if not len(found):
            raise UserError(f"{self.place}: no text of the domain {domain!r}, for which the bundle has a student")
        return found


def read_labelled(path: Path, manifest: Manifest, **columns: str | None) -> LabelledTexts:
    """The texts of a table, or the dev texts of a recipe (.toml).

    A table is read as the recipe of the bundle says: names of columns, separator, other names of labels.

    :param columns: settings of the section `data` that are other than in that recipe; None: as there.
    :raises UserError: the file cannot be read, or has a label that the bundle does not know.
    """
    if not path.is_file():
        raise UserError(f"--data: {path}: {'is a directory' if path.is_dir() else 'no such file'}")
    if path.suffix == ".toml":
        return _dev_texts(path, manifest)
    known: dict[str, Any] = manifest.provenance.get("recipe", {}).get("data", {})
    known = known.get("target", known)
    settings = {name: known.get(name) for name in READING} | {name: c for name, c in columns.items() if c is not None}
    settings = {name: value for name, value in settings.items() if value is not None}
    if manifest.domains is None:
        settings.pop("domain", None)
    elif "domain" not in settings:
        raise UserError("--domain: the bundle has a student for each domain; name the column of the domains")
    if manifest.pair and "text_b" not in settings:
        raise UserError("--text-b: the bundle classifies pairs; name the column of the second texts")
    if not manifest.pair:
        settings.pop("text_b", None)
    rows = read_table(path, TextOptions(train=path, **settings), "train")
    numbers, relabel = {name: i for i, name in enumerate(manifest.labels)}, known.get("relabel", {})
    labels = [relabel.get(row.label, row.label) for row in rows]
    for row, label in zip(rows, labels, strict=True):
        if label not in numbers:
            raise UserError(
                f"{path}: {row.place}: label {label!r} is none of the bundle's: {', '.join(manifest.labels[:20])}"
            )
    texts_b = [str(row.text_b) for row in rows] if manifest.pair else None
    domains = [str(row.domain) for row in rows] if manifest.domains else None
    return LabelledTexts(
        str(path), Split([row.text for row in rows], texts_b, [numbers[label] for label in labels], domains), False
    )


def _dev_texts(path: Path, manifest: Manifest) -> LabelledTexts:
    from compress.recipe import load_recipe

    corpus = load_student_corpus(load_recipe(path))
    if corpus.labels != manifest.labels or corpus.pair != manifest.pair:
        raise UserError(
            f"--data: {path}: its labels are {', '.join(corpus.labels[:20])}, the bundle's {', '.join(manifest.labels[:20])}; "
            "give the recipe that the bundle was made with"
        )
    return LabelledTexts(f"dev of {path}", corpus.splits["dev"], True)


def check_accuracy(bundle: Bundle, texts: LabelledTexts, device: str) -> Iterator[str]:
    """Measure each model and compare it with its dev accuracy at export; a line for each.

    :raises UserError: a model is less accurate than at export by more than `allowed_drop`.
    """
    manifest = bundle.manifest
    budget = manifest.provenance.get("recipe", {}).get("export", {}).get("budget", 1.0)
    for domain, part in bundle.parts.items():
        split = texts.of_domain(domain)
        for name, model in part.models.items():
            if is_for(device, name, model):
                session = BundleSession(bundle, precision=name, domain=domain, device=device)
                title = name if domain is None else f"{domain}, {name}"
                yield f"{title}: {_compare(session, split, model, texts, title, budget)}"


def allowed_drop(budget: float, dev_accuracy: float, dev_error: float | None, texts: int | None) -> float:
    """How many points below its dev accuracy a model may be.

    On other texts than dev it may be the recipe's budget and two standard errors of a difference: the accuracy on dev and that on so
    many other texts are both estimates.

    :param budget: of the recipe, in points.
    :param dev_error: the standard error of the accuracy on dev. None: not known.
    :param texts: number of the other texts. None: they are those of dev.
    """
    error = 0.0 if texts is None else math.hypot(standard_error(dev_accuracy, texts), dev_error or 0.0)
    return budget + 200 * error


def _compare(
    session: BundleSession, split: Split, model: ModelEntry, texts: LabelledTexts, title: str, budget: float
) -> str:
    predicted = session.predict(split.texts, split.texts_b).argmax(axis=1)
    accuracy = float((predicted == np.asarray(split.labels)).mean())
    error = standard_error(accuracy, len(split))
    found = f"{show_accuracy(accuracy, error)} on {len(split):,} texts ({texts.place})"
    if model.dev_accuracy is None:
        return f"{found}; not measured at export"
    allowed = allowed_drop(budget, model.dev_accuracy, model.dev_error, None if texts.are_dev else len(split))
    drop = 100 * (model.dev_accuracy - accuracy)
    if drop > allowed:
        raise UserError(
            f"{title}: {found}, {drop:.2f} points below the {model.dev_accuracy:.2%} on dev at export, and {allowed:.2f} are "
            "allowed; are these texts and labels of the same task? Else export the bundle again on this machine"
        )
    return f"{found}; dev at export {show_accuracy(model.dev_accuracy, model.dev_error)}"
