"""The bundle: a directory with the files that serving needs. Their hashes are checked when it is opened. No torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from compress.runtime.encode import TextEncoder
from compress.runtime.errors import UserError
from export.golden import GoldenExamples, read_golden

FORMAT = 3
GRAPHS = 2  # changes whenever the exporter writes another graph of the same model
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"
HOW_TO_MAKE = "pocketbert compress RECIPE.toml && pocketbert export RECIPE.toml"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileEntry(_Part):
    """Hash and size of a file of the bundle."""

    sha256: str
    bytes: int


class ShapeProfile(_Part):
    """The shapes (B, L) of the batches that an engine takes, and the one for which it is the fastest."""

    smallest: tuple[int, int]
    optimal: tuple[int, int]
    largest: tuple[int, int]


class Engine(_Part):
    """The TensorRT package, its version and the GPU for which an engine was built. The engine runs with no other."""

    package: Literal["tensorrt", "tensorrt-rtx"]
    version: str
    compute_capability: str
    shapes: ShapeProfile
    graph_sha256: str | None = None  # of the ONNX graph that it was built from; None: not recorded


class ClassAccuracy(_Part):
    """The accuracy on the dev texts of one label."""

    label: str
    texts: int  # of this label in dev
    accuracy: float  # a fraction of 1
    drop: float  # points lost against the fp32 student


class Attempt(_Part):
    """One way to quantise that was tried, and what the accuracy gate said about it."""

    quantisation: str
    float_layers: list[str]  # nodes of the graph that stayed in float, besides the output layers
    drop: float  # points of dev accuracy lost against the fp32 student
    agreement: float  # share of the dev texts that get the label that the fp32 student gives them
    passed: bool


class Calibration(_Part):
    """How the scores of a model became probabilities: softmax(logits / temperature). See `export.calibration`.

    The errors are expected calibration errors (ECE), fractions of 1, by split.
    """

    temperature: float = Field(gt=0)
    ece_before: dict[str, float]
    ece_after: dict[str, float]


class ModelEntry(_Part):
    """One model of the bundle with the result of the accuracy gate. Accuracies are fractions, `drop` is in points."""

    file: str
    runtime: Literal["onnxruntime", "tensorrt"]
    engine: Engine | None = None
    dev_accuracy: float | None  # None: not measured, because the model could not run where it was built
    test_accuracy: float | None
    drop: float | None  # points of dev accuracy lost against the fp32 student
    passed: bool | None  # the drop is within the recipe's budget; None: not measured
    note: str  # how the model was made
    dev_error: float | None = None  # standard errors of the accuracies, fractions of 1
    test_error: float | None = None
    agreement: float | None = None  # share of the dev texts that get the label that the fp32 student gives them
    float_layers: list[str] = []  # nodes that stayed in float because INT8 lost too much there
    attempts: list[Attempt] = []  # what was tried until it passed, in this order
    # Mean squared error of the logits if only this layer is quantised, the worst first; {}: the whole graph passed the gate.
    sensitivity: dict[str, float] = {}
    classes: list[ClassAccuracy] = []  # those that lost most come first
    calibration: Calibration | None = None  # None: no logits were computed, or the bundle is older than this field

    @property
    def temperature(self) -> float:
        """By which its logits are divided before the softmax."""
        return self.calibration.temperature if self.calibration else 1.0


class CurvePoint(_Part):
    """What a cascade does on dev at one threshold. Shares and accuracies are fractions of 1."""

    share: float  # of the texts that go to the teacher: those whose score is at most the threshold
    threshold: float
    accuracy: float
    ms: float  # mean time of a text: the student's, and the teacher's for the share


class Route(_Part):
    """Which texts of a student go to the teacher. All figures are of dev."""

    chosen: CurvePoint
    curve: list[CurvePoint]  # from no text passed on to all of them, in steps of about a hundredth
    student_ms: float  # mean time of a text
    teacher_ms: float


class Cascade(_Part):
    """The teacher, which answers the texts of which the student is unsure."""

    precision: Literal["int8", "fp32"]
    teacher: ModelEntry
    tokenizer: str  # the bundle's own, unless the teacher's differs
    pad_token_id: int
    routes: dict[str, Route]  # by the precision of the student


class DomainEntry(_Part):
    """The models of the student of one domain. Their accuracies are measured on the texts of this domain."""

    default: str
    models: dict[str, ModelEntry]
    # Of the default model, on the dev texts of all domains. The domain with the highest one is `default_domain`.
    dev_accuracy_of_all: float
    provenance: dict[str, Any]
    golden: str | None = None  # file with golden examples; None: the recipe wants none


class FastTokenizer(_Part):
    """The version of nanotoken that gave the ids of `tokenizers`, and on how many texts (or pairs)."""

    version: str
    task_texts: int  # all of the task
    odd_strings: int  # generated: all scripts, control characters, very long words, special tokens


class Manifest(_Part):
    """The content of `manifest.json`."""

    format: int
    name: str
    version: str
    created: str
    labels: list[str]
    max_length: int
    pair: bool
    pad_token_id: int
    default: str
    models: dict[str, ModelEntry]  # in a bundle with `domains`: the models of `default_domain`
    files: dict[str, FileEntry]
    provenance: dict[str, Any]
    domains: dict[str, DomainEntry] | None = None  # None: one student for all texts
    default_domain: str | None = None  # answers requests without a domain
    golden: str | None = None  # file with golden examples; in a bundle with `domains`, each domain has its own
    versions: dict[str, str] = {}  # of Python and of the packages that the bundle was made with
    fast_tokenizer: FastTokenizer | None = None  # None: texts are encoded by `tokenizers`
    cascade: Cascade | None = None  # None: the student answers all texts


class Bundle:
    """A bundle whose files have been checked.

    `sha256` is the hash of the manifest. The manifest has the hash of every other file, so it names this bundle and no other.

    :raises UserError: the directory holds no bundle, the bundle has another format version, a file is missing, truncated or
        altered, the manifest names a file outside the directory, or the labels are not those, or not in the order, for which the
        models were made.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.manifest, self.sha256 = _read_manifest(directory)
        for name, entry in self.manifest.files.items():
            _verify(directory / name, entry)
        for domain in self.parts:
            self._check_labels(self.golden(domain))

    @property
    def parts(self) -> dict[str | None, Manifest | DomainEntry]:
        """The models of each domain; with one student for all texts, the manifest under the key None."""
        domains = self.manifest.domains
        return {None: self.manifest} if domains is None else {domain: entry for domain, entry in domains.items()}  # noqa: C416 - for the types

    def model(self, precision: str | None = None, domain: str | None = None) -> tuple[str, ModelEntry]:
        """The name and the entry of a model.

        :param precision: None: the default one.
        :param domain: the domain whose student to use, in a bundle with a student for each domain. None: the default domain.
        :raises UserError: the bundle does not have the precision or the domain.
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

    def golden(self, domain: str | None = None) -> GoldenExamples | None:
        """The golden examples of the student of a domain, or of the only student. None: the bundle has none.

        :raises UserError: the file cannot be read.
        """
        part = self.parts[domain]
        return None if part.golden is None else read_golden(self.directory / part.golden)

    def _check_labels(self, golden: GoldenExamples | None) -> None:
        if golden is not None and golden.labels != self.manifest.labels:
            raise UserError(
                f"{self.directory / MANIFEST}: its labels are {', '.join(self.manifest.labels[:20])}, but the models were made for "
                f"{', '.join(golden.labels[:20])}, in this order; export or copy the bundle again"
            )

    @property
    def tokenizer_file(self) -> Path:
        """The path of the bundle's `tokenizer.json`."""
        return self.directory / TOKENIZER

    def encoder(self) -> TextEncoder:
        """The bundle's tokenizer, in nanotoken where the manifest allows the installed version."""
        fast = self.manifest.fast_tokenizer
        return TextEncoder(self.tokenizer_file, self.manifest.max_length, nanotoken=fast.version if fast else None)


def newest_bundle(artifacts: Path) -> Path:
    """The directory of the bundle under `artifacts/*/bundle` that was made last.

    :raises UserError: there is no bundle.
    """
    manifests = list(artifacts.glob(f"*/bundle/{MANIFEST}"))
    if not manifests:
        raise UserError(f"no bundle under {artifacts.absolute()}; make one with `{HOW_TO_MAKE}`")
    return max(manifests, key=_created).parent


def find_bundle(place: Path | None, artifacts: Path = Path("artifacts")) -> Path:
    """The directory of the bundle that a user means.

    :param place: the bundle, the folder of a recipe's results (`artifacts/NAME`) that has one, or its `manifest.json`. None: the
        newest bundle under `artifacts`.
    :raises UserError: there is none.
    """
    if place is None:
        return newest_bundle(artifacts)
    if place.name == MANIFEST:
        place = place.parent
    for directory in (place, place / "bundle"):
        if (directory / MANIFEST).is_file():
            return directory
    if not place.exists():
        raise UserError(f"{place}: no such directory; a bundle is in artifacts/NAME/bundle")
    raise UserError(f"{place}: no {MANIFEST}, so no bundle; make one with `{HOW_TO_MAKE}`")


def _created(manifest: Path) -> str:
    """The time in the manifest. The time of the file is not used, because copying changes it. "" if it cannot be read."""
    try:
        return str(json.loads(manifest.read_text(encoding="utf-8"))["created"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def file_entry(path: Path) -> FileEntry:
    """Hash and size of a file."""
    with path.open("rb") as file:
        return FileEntry(sha256=hashlib.file_digest(file, "sha256").hexdigest(), bytes=path.stat().st_size)


def _read_manifest(directory: Path) -> tuple[Manifest, str]:
    """The manifest and the SHA-256 of its file."""
    path = directory / MANIFEST
    try:
        raw = path.read_bytes()
        content = json.loads(raw.decode("utf-8"))
    except FileNotFoundError:
        raise UserError(f"{directory}: no {MANIFEST}, so no bundle; make one with `{HOW_TO_MAKE}`") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); export the bundle again") from None
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise UserError(f"{path}: bundle format {found}, this version reads format {FORMAT}; export the bundle again")
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(f"{path}: {place}: {first['msg']}; export the bundle again") from None
    parts: list[Manifest | DomainEntry] = [manifest, *(manifest.domains or {}).values()]
    named = [TOKENIZER, *(model.file for part in parts for model in part.models.values())]
    named += [part.golden for part in parts if part.golden is not None]
    if manifest.cascade is not None:
        named += [manifest.cascade.tokenizer, manifest.cascade.teacher.file]
    if unknown := next((name for name in named if name not in manifest.files), None):
        raise UserError(f"{path}: {unknown} is not among its files; export the bundle again")
    if outside := next((name for name in manifest.files if not _is_inside(name)), None):
        raise UserError(f"{path}: the file {outside!a} is not inside the bundle; use no bundle of unknown origin")
    return manifest, hashlib.sha256(raw).hexdigest()


def _is_inside(name: str) -> bool:
    """Whether the name of a file leads to a place in the bundle's directory, on every system."""
    parts = PurePosixPath(name).parts
    return (
        bool(parts)
        and ".." not in parts
        and not name.startswith("/")
        and "\\" not in name
        and ":" not in parts[0]
        and "\0" not in name
    )


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
