"""Builds the TensorRT engines of a bundle again from the graphs in it: for another GPU, or another version of TensorRT. No torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath

from compress.data.files import write_json
from compress.runtime.errors import UserError
from export import cuda
from export.bundle import MANIFEST, Bundle, DomainEntry, FileEntry, Manifest, ModelEntry, file_entry
from export.manifest import ENGINE_GRAPH
from export.tensorrt import build_engine, engine_note
from export.tensorrt_session import check_graph


def rebuild(
    bundle: Bundle, compute_capability: str | None = None, say: Callable[[str], None] = lambda line: None
) -> Bundle:
    """Replace the engines of a bundle. The manifest changes with them; `rebuilt_from` in its provenance is the hash of the old one.

    A run that is killed leaves the old bundle, beside it perhaps a new engine that the manifest does not list.

    :param compute_capability: of the GPU to build for, e.g. "8.9". None: that of this machine.
    :param say: told, line by line, what is built.
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
    parts: dict[str | None, Manifest | DomainEntry] = {}
    for domain, part in bundle.parts.items():
        models = {}
        for name, model in part.models.items():
            if model.engine is not None:
                check_graph(bundle, model, domain)
                if ENGINE_GRAPH not in part.models:
                    raise UserError(
                        f"{bundle.directory}: the graph of its engine is not in it; take the whole bundle, or export again"
                    )
                graph = bundle.directory / part.models[ENGINE_GRAPH].file
                say(
                    f"building the engine of {graph.relative_to(bundle.directory)} for compute capability {capability} …"
                )
                model = _replaced(bundle, model, graph, capability, files)
            models[name] = model
        parts[domain] = part.model_copy(update={"models": models})
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


def _replaced(
    bundle: Bundle, model: ModelEntry, graph: Path, capability: str, files: dict[str, FileEntry]
) -> ModelEntry:
    """The entry of a new engine. `files` gets its file in the place of the old one."""
    assert model.engine is not None
    temporary = bundle.directory / f"{model.file}.new"
    engine = build_engine(graph, temporary, model.engine.shapes, capability)
    made = file_entry(temporary)
    name = str(PurePosixPath(model.file).parent / f"model.tensorrt.{made.sha256[:8]}.engine")
    temporary.replace(bundle.directory / name)
    del files[model.file]
    files[name] = made
    return model.model_copy(update={"file": name, "engine": engine, "note": engine_note(engine)})
