"""A bundle without what one server does not need: other precisions, and the teacher if there shall be no cascade. No torch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection
from pathlib import Path

from compress.runtime.errors import UserError
from compress.runtime.files import recover_directory, replace_directory
from export.bundle import MANIFEST, TOKENIZER, Bundle
from export.manifest import ENGINE_GRAPH, DomainEntry, Manifest, named_files

Part = Manifest | DomainEntry


def pack(bundle: Bundle, out: Path, *, precisions: Collection[str] = (), cascade: bool | None = None) -> Bundle:
    """Copy a bundle with the models of some precisions only.

    The manifest of the copy lists what is left, so its hash is another one; `packed_from` in its provenance is that of the whole.

    :param out: the new directory. A bundle that is there is replaced. Of a killed call, the next one restores it.
    :param precisions: of the student, the new default first. Empty: the bundle's default.
    :param cascade: whether the teacher is kept. None: if the bundle has a cascade.
    :returns: the copy, with its hashes checked.
    :raises UserError: the bundle lacks a precision or a cascade, or `out` cannot be replaced.
    """
    if cascade and bundle.manifest.cascade is None:
        raise UserError(f"{bundle.directory}: the bundle has no cascade to keep; leave the option out")
    parts = {
        domain: _kept(bundle, part, domain, precisions, with_cascade=cascade is not False)
        for domain, part in bundle.parts.items()
    }
    old = bundle.manifest
    default = parts[old.default_domain]
    names = {TOKENIZER}.union(*map(named_files, parts.values())) | ({old.golden} if old.golden is not None else set())
    manifest = old.model_copy(
        update={
            "default": default.default,
            "models": default.models,
            "domains": None if old.domains is None else parts,
            "cascade": default.cascade,
            "files": {name: file for name, file in old.files.items() if name in names},
            "provenance": {**old.provenance, "packed_from": bundle.sha256},
        }
    )
    _write(bundle.directory, manifest, out)
    return Bundle(out)


def _kept(bundle: Bundle, part: Part, domain: str | None, precisions: Collection[str], *, with_cascade: bool) -> Part:
    """The models of a domain, or of the only student, that are kept."""
    chosen = dict([bundle.model(precision, domain) for precision in precisions] or [bundle.model(None, domain)])
    if any(model.engine for model in chosen.values()) and ENGINE_GRAPH in part.models:
        chosen.setdefault(ENGINE_GRAPH, part.models[ENGINE_GRAPH])  # an engine is refused without its graph
    cascade = part.cascade if with_cascade else None
    if cascade is not None:
        cascade = cascade.model_copy(update={"routes": {p: r for p, r in cascade.routes.items() if p in chosen}})
    return part.model_copy(update={"default": next(iter(chosen)), "models": chosen, "cascade": cascade})


def _write(source: Path, manifest: Manifest, out: Path) -> None:
    """Write the copy beside `out` and put it there when it is complete."""
    out = out.absolute()  # "." has no name, and so nothing can be put beside it
    if source.resolve() == out.resolve():
        raise UserError(f"{out}: is the bundle itself; choose another directory with --out")
    if out.exists() and not (out / MANIFEST).is_file():
        raise UserError(f"{out}: is there already and holds no bundle; choose another directory with --out")
    part = out.with_name(f"{out.name}.part")
    try:
        recover_directory(out)  # if an earlier call was killed
        shutil.rmtree(part, ignore_errors=True)
        for name in manifest.files:
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, part / name)
        content = json.dumps(manifest.model_dump(mode="json"), ensure_ascii=False, indent=2)
        (part / MANIFEST).write_text(content + "\n", encoding="utf-8")
        replace_directory(part, out)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        recover_directory(out)
        raise UserError(f"{out}: cannot be written ({error.strerror}); choose another directory with --out") from None
