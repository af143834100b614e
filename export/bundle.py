"""The bundle: a directory with all that serving needs and nothing else, checked by hash when it is opened. No torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from compress.runtime.errors import UserError

FORMAT = 2
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileEntry(_Part):
    """A file of the bundle."""

    sha256: str
    bytes: int


class Engine(_Part):
    """What a TensorRT engine is bound to; checked before it is loaded."""

    package: Literal["tensorrt", "tensorrt-rtx"]
    version: str
    compute_capability: str


class ModelEntry(_Part):
    """One model of the bundle with its gate verdict. Accuracies are fractions, `drop` is in points."""

    file: str
    runtime: Literal["onnxruntime", "tensorrt"]
    engine: Engine | None = None
    dev_accuracy: float | None  # None: the model could not be run where it was built
    test_accuracy: float | None
    drop: float | None  # points of dev accuracy lost against the fp32 student
    passed: bool | None  # the drop is within the recipe's budget; None: not measured
    note: str  # how it was made and what the gate did, in a sentence


class DomainEntry(_Part):
    """The models of one domain's student. Their accuracies are those on the domain's own texts."""

    default: str
    models: dict[str, ModelEntry]
    dev_accuracy_of_all: float  # of the default model on the dev texts of all domains, which chose `default_domain`
    provenance: dict[str, Any]


class Manifest(_Part):
    """`manifest.json`."""

    format: int
    name: str
    version: str
    created: str
    labels: list[str]
    max_length: int
    pair: bool
    pad_token_id: int
    default: str
    models: dict[str, ModelEntry]  # with `domains`: those of `default_domain`
    files: dict[str, FileEntry]
    provenance: dict[str, Any]
    domains: dict[str, DomainEntry] | None = None  # where each domain has a student of its own
    default_domain: str | None = None  # answers a request that names none


class Bundle:
    """An opened, verified bundle.

    :raises UserError: no bundle there, another format version, a file missing, truncated or altered.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.manifest = _read_manifest(directory)
        for name, entry in self.manifest.files.items():
            _verify(directory / name, entry)

    def model(self, precision: str | None = None, domain: str | None = None) -> tuple[str, ModelEntry]:
        """The model of that precision, or the default one, with its name.

        :param domain: whose student, where each domain has its own.
        :raises UserError: the bundle has no such precision or domain.
        """
        part: Manifest | DomainEntry = self.manifest
        if domain is not None:
            if domain not in (domains := self.manifest.domains or {}):
                raise UserError(
                    f"{self.directory}: no domain {domain!r}; the bundle has {', '.join(domains) or 'none'}"
                )
            part = domains[domain]
        name = precision or part.default
        if name not in part.models:
            of = "the bundle" if domain is None else f"its domain {domain!r}"
            raise UserError(f"{self.directory}: no precision {name!r}; {of} has {', '.join(part.models)}")
        return name, part.models[name]

    @property
    def tokenizer_file(self) -> Path:
        """Path of the bundle's `tokenizer.json`."""
        return self.directory / TOKENIZER


def newest_bundle(artifacts: Path) -> Path:
    """The bundle under `artifacts/*/bundle` that was made last.

    :raises UserError: there is none.
    """
    manifests = list(artifacts.glob(f"*/bundle/{MANIFEST}"))
    if not manifests:
        raise UserError(f"no bundle under {artifacts.absolute()}; make one with `make compress-and-export`")
    return max(manifests, key=_created).parent


def _created(manifest: Path) -> str:
    """When a bundle was made, by its own word: a copied file's time says when it was copied. Unreadable ones are oldest."""
    try:
        return str(json.loads(manifest.read_text(encoding="utf-8"))["created"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def file_entry(path: Path) -> FileEntry:
    """Hash and size of a file."""
    with path.open("rb") as file:
        return FileEntry(sha256=hashlib.file_digest(file, "sha256").hexdigest(), bytes=path.stat().st_size)


def _read_manifest(directory: Path) -> Manifest:
    path = directory / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{directory}: no {MANIFEST}, so no bundle; make one with `make compress-and-export`") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); export the bundle again") from None
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise UserError(f"{path}: bundle format {found}, this version reads format {FORMAT}; export the bundle again")
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(f"{path}: {place}: {first['msg']}; export the bundle again") from None


def _verify(path: Path, entry: FileEntry) -> None:
    if not path.is_file():
        raise UserError(f"{path}: missing from the bundle; export the bundle again")
    size = path.stat().st_size
    if size != entry.bytes:
        raise UserError(
            f"{path}: {size} bytes instead of {entry.bytes} (truncated copy?); export or copy the bundle again"
        )
    if file_entry(path).sha256 != entry.sha256:
        raise UserError(
            f"{path}: its SHA-256 is not the manifest's (corrupt or altered); export or copy the bundle again"
        )
