"""The bundle: a directory with the files that serving needs. Their hashes are checked when it is opened. No torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from compress.runtime.encode import TextEncoder
from compress.runtime.errors import UserError
from export.golden import GoldenExamples, read_golden
from export.manifest import FORMAT, DomainEntry, FileEntry, Manifest, ModelEntry, named_files

GRAPHS = 2  # changes whenever the exporter writes another graph of the same model
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"
HOW_TO_MAKE = "pocketbert compress RECIPE.toml && pocketbert export RECIPE.toml"


class Bundle:
    """A bundle whose files have been checked.

    `sha256` is the hash of the manifest. The manifest has the hash of every other file, so it names this bundle and no other.

    :raises UserError: the directory holds no bundle, the bundle has another format version, a file is missing, unreadable, truncated or
        altered, the manifest names a file outside the directory, or the labels are not those, or not in the order, for which the
        models were made.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.manifest, self.sha256 = _read_manifest(directory)
        for name, entry in self.manifest.files.items():
            try:
                _verify(directory / name, entry)
            except OSError as error:
                raise _unreadable(directory / name, error) from None
        for domain in self.parts:
            self._check_labels(self.golden(domain))

    @property
    def parts(self) -> dict[str | None, Manifest | DomainEntry]:
        """See `Manifest.parts`."""
        return self.manifest.parts

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


def find_bundle(place: Path | None) -> Path:
    """The directory of the bundle that a user means.

    :param place: the bundle, the folder of a recipe's results (`artifacts/NAME`) that has one, or its `manifest.json`. None: the
        newest bundle under `artifacts/`.
    :raises UserError: there is none.
    """
    if place is None:
        return newest_bundle(Path("artifacts"))
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
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
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
    except OSError as error:
        raise _unreadable(path, error) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error}); export the bundle again") from None
    found = content.get("format") if isinstance(content, dict) else None
    if found is None:
        raise UserError(f"{path}: is not the manifest of a bundle; export the bundle again")
    if found != FORMAT:
        newer = isinstance(found, int) and found > FORMAT
        cure = "install a newer pocketbert, or export the bundle with this one" if newer else "export the bundle again"
        raise UserError(f"{path}: bundle format {found}, this version reads format {FORMAT}; {cure}")
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(f"{path}: {place}: {first['msg']}; export the bundle again") from None
    named = {TOKENIZER}.union(*map(named_files, (manifest, *manifest.parts.values())))
    if unknown := next((name for name in sorted(named) if name not in manifest.files), None):
        raise UserError(f"{path}: {unknown} is not among its files; export the bundle again")
    if outside := next((name for name in manifest.files if not _is_inside(name)), None):
        raise UserError(f"{path}: the file {outside!a} is not inside the bundle; use no bundle of unknown origin")
    return manifest, hashlib.sha256(raw).hexdigest()


def _unreadable(path: Path, error: OSError) -> UserError:
    """Such as a file of another user who keeps files to themselves (umask 077)."""
    return UserError(
        f"{path}: cannot be read ({error.strerror}); let this user read the bundle, or export or copy it again"
    )


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
