"""Puts the students of all domains into one bundle, with a default domain for requests without a domain."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from compress import __version__
from compress.console import console
from compress.data.corpus import load_corpus
from compress.data.files import fingerprint, sha256_file, write_json
from compress.pipeline.per_domain import domain_recipes, domain_workspace, folder_name
from compress.pipeline.workspace import Workspace
from compress.recipe import Recipe
from export.build import Target, build_bundle
from export.bundle import MANIFEST, TOKENIZER, Bundle, file_entry
from export.manifest import DomainEntry, FastTokenizer, Manifest, ModelEntry, named_files
from export.session import BundleSession


def build_domain_bundle(recipe: Recipe, workspace: Workspace, target: Target, *, force: bool = False) -> Bundle:
    """Export the student of each domain and put them into one bundle, unless it is up to date.

    The accuracy gate uses the texts of the student's own domain. The default domain is the one whose student is the most
    accurate on the dev texts of all domains.

    :raises UserError: see `build_bundle`, for each domain.
    """
    bundles = {}
    for domain, own in domain_recipes(recipe).items():
        console.print(f"[bold]{domain}[/]")
        bundles[domain] = build_bundle(own, domain_workspace(workspace, domain), target, force=force)
    hashes = {domain: sha256_file(bundle.directory / MANIFEST) for domain, bundle in bundles.items()}
    directory = workspace.run(
        "bundle", fingerprint(__version__, hashes), lambda d, _: _merge_bundles(recipe, bundles, d), force=force
    )
    return Bundle(directory)


def _merge_bundles(recipe: Recipe, bundles: dict[str, Bundle], directory: Path) -> None:
    dev = load_corpus(recipe.target).splits["dev"]
    entries: dict[str, DomainEntry] = {}
    teachers: dict[str, str] = {}
    for domain, bundle in bundles.items():
        probabilities = BundleSession(bundle).predict(dev.texts, dev.texts_b)
        accuracy = round(float((probabilities.argmax(axis=1) == np.asarray(dev.labels)).mean()), 6)
        entries[domain] = _copy_models(bundle, domain, accuracy, directory, teachers)
    default = max(entries, key=lambda domain: entries[domain].dev_accuracy_of_all)
    console.print(f"  default domain: {default}, {entries[default].dev_accuracy_of_all:.2%} on dev of all domains")
    of_default = bundles[default]
    shutil.copyfile(of_default.tokenizer_file, directory / TOKENIZER)  # the same file for all students
    names = {TOKENIZER}.union(*map(named_files, entries.values()))
    manifest = Manifest(
        **of_default.manifest.model_dump(include={"format", "labels", "max_length", "pair", "pad_token_id", "default"}),
        fast_tokenizer=_checked_of_all([bundle.manifest.fast_tokenizer for bundle in bundles.values()]),
        name=recipe.name,
        version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        models=entries[default].models,
        files={name: file_entry(directory / name) for name in sorted(names)},
        provenance=of_default.manifest.provenance,
        golden=entries[default].golden,
        seen_tokens=entries[default].seen_tokens,
        cascade=entries[default].cascade,
        versions=of_default.manifest.versions,
        domains=entries,
        default_domain=default,
    )
    write_json(directory / MANIFEST, manifest.model_dump(mode="json"))


def _checked_of_all(checked: list[FastTokenizer | None]) -> FastTokenizer | None:
    """Nanotoken is allowed for the texts of all domains if it is for those of each. All domains have the same tokenizer."""
    known = [one for one in checked if one is not None]
    if len(known) < len(checked) or len({one.version for one in known}) > 1:
        return None
    return known[0].model_copy(update={"task_texts": sum(one.task_texts for one in known)})


def _copy_models(
    bundle: Bundle, domain: str, accuracy: float, directory: Path, teachers: dict[str, str]
) -> DomainEntry:
    """Copy the models of a domain into `directory/domains/NAME`.

    :param accuracy: the `dev_accuracy_of_all` of the entry.
    :param teachers: by hash, where the files for teachers are that other domains have brought. Theirs is often the same.
    """
    folder = f"domains/{folder_name(domain)}"
    (directory / folder).mkdir(parents=True)
    models: dict[str, ModelEntry] = {}
    for name, model in bundle.manifest.models.items():
        shutil.copyfile(bundle.directory / model.file, directory / folder / model.file)
        models[name] = model.model_copy(update={"file": f"{folder}/{model.file}"})
    manifest = bundle.manifest
    golden = None if manifest.golden is None else f"{folder}/{manifest.golden}"
    if manifest.golden is not None:
        shutil.copyfile(bundle.directory / manifest.golden, directory / folder / manifest.golden)
    cascade = manifest.cascade
    if cascade is not None:

        def place_of(name: str) -> str:
            sha256 = manifest.files[name].sha256
            if sha256 not in teachers:
                teachers[sha256] = f"{folder}/{name}"
                shutil.copyfile(bundle.directory / name, directory / teachers[sha256])
            return teachers[sha256]

        tokenizer = cascade.tokenizer if cascade.tokenizer == TOKENIZER else place_of(cascade.tokenizer)
        teacher = cascade.teacher.model_copy(update={"file": place_of(cascade.teacher.file)})
        cascade = cascade.model_copy(update={"teacher": teacher, "tokenizer": tokenizer})
    return DomainEntry(
        default=manifest.default,
        models=models,
        dev_accuracy_of_all=accuracy,
        provenance=manifest.provenance,
        golden=golden,
        seen_tokens=manifest.seen_tokens,
        cascade=cascade,
    )
