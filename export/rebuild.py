"""Builds the TensorRT engines of a bundle again from the graphs in it: for another GPU, or another version of TensorRT. No torch."""

from __future__ import annotations

from pathlib import PurePosixPath

from compress.console import console
from compress.data.files import write_json
from compress.runtime.errors import UserError
from export import cuda
from export.bundle import MANIFEST, Bundle, DomainEntry, FileEntry, Manifest, ModelEntry, file_entry
from export.tensorrt import ENGINE_GRAPH, build_engine, engine_note
from export.tensorrt_session import check_graph


def rebuild(bundle: Bundle, compute_capability: str | None = None) -> Bundle:
    """Replace the engines of a bundle. The manifest changes with them; `rebuilt_from` in its provenance is the hash of the old one.

    A run that is killed leaves the old bundle, beside it perhaps a new engine that the manifest does not list.

    :param compute_capability: of the GPU to build for, e.g. "8.9". None: that of this machine.
    :returns: the bundle, opened anew.
    :raises UserError: the bundle has no engine or not its graph, there is no GPU to build for, or see `build_engine`.
    """
    old = bundle.manifest
    if not any(model.engine for part in bundle.parts.values() for model in part.models.values()):
        raise UserError(
            f"{bundle.directory}: the bundle has no TensorRT engine; export it with --target tensorrt, which adds the graph too"
        )
    capability = compute_capability or cuda.compute_capability()
    files = dict(old.files)
    parts = {domain: _rebuilt(bundle, domain, part, capability, files) for domain, part in bundle.parts.items()}
    manifest = old.model_copy(
        update={
            "models": parts[old.default_domain].models,
            "domains": None if old.domains is None else parts,
            "files": files,
            "provenance": {**old.provenance, "rebuilt_from": bundle.sha256},
        }
    )
    write_json(bundle.directory / MANIFEST, manifest.model_dump(mode="json"))
    for name in old.files.keys() - files.keys():
        (bundle.directory / name).unlink()
    return Bundle(bundle.directory)


def _rebuilt(
    bundle: Bundle, domain: str | None, part: Manifest | DomainEntry, capability: str, files: dict[str, FileEntry]
) -> Manifest | DomainEntry:
    """The models of a domain, or of the only student, with new engines. `files` gets them in the place of the old ones."""
    models = {name: _replaced(bundle, domain, part, model, capability, files) for name, model in part.models.items()}
    return part.model_copy(update={"models": models})


def _replaced(
    bundle: Bundle,
    domain: str | None,
    part: Manifest | DomainEntry,
    model: ModelEntry,
    capability: str,
    files: dict[str, FileEntry],
) -> ModelEntry:
    if model.engine is None:
        return model
    check_graph(bundle, model, domain)
    graph = bundle.directory / part.models[ENGINE_GRAPH].file
    console.print(f"building the engine of {graph.name} for compute capability {capability} …")
    temporary = bundle.directory / f"{model.file}.new"
    engine = build_engine(graph, temporary, model.engine.shapes, capability)
    made = file_entry(temporary)
    name = str(PurePosixPath(model.file).parent / f"model.tensorrt.{made.sha256[:8]}.engine")
    temporary.replace(bundle.directory / name)
    del files[model.file]
    files[name] = made
    return model.model_copy(update={"file": name, "engine": engine, "note": engine_note(engine)})
