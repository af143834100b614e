"""Is a bundle whole, and does it answer here as it did at export? No torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from compress.runtime.errors import UserError
from export.bundle import MANIFEST, Bundle
from export.golden import check_golden
from export.session import BundleSession, is_for
from export.tensorrt import ENGINE_GRAPH
from export.tensorrt_session import check_graph


def verify_bundle(bundle: Bundle, device: str = "cpu") -> Iterator[str]:
    """Check a bundle that has been opened, which has checked each listed file; a line for each thing that holds.

    :param device: where the models run, "cpu" or "cuda".
    :raises UserError: the first thing that does not hold.
    """
    _check_files(bundle)
    yield f"{len(bundle.manifest.files)} files: each has the SHA-256 of the manifest, and there are no others"
    for domain, part in bundle.parts.items():
        golden = bundle.golden(domain)
        for name, model in part.models.items():
            title = name if domain is None else f"{domain}, {name}"
            if model.engine is not None:
                check_graph(bundle, model, domain)
            if not is_for(device, name, model):
                yield f"{title}: not run, since it is made for a {'CPU' if device == 'cuda' else 'GPU'}"
            elif golden is None:
                yield f"{title}: its answers were not compared, since the bundle has no golden examples (export.golden_texts = 0)"
            else:
                session = BundleSession(bundle, precision=name, domain=domain, device=device)
                difference = check_golden(session, golden, None if model.engine is None else ENGINE_GRAPH)
                yield f"{title}: {len(golden.texts)} golden examples, logits within {difference:.1e} of those at export"


def _check_files(bundle: Bundle) -> None:
    """Refuse what the manifest does not list: nobody has vouched for it."""
    listed = {Path(name) for name in bundle.manifest.files} | {Path(MANIFEST)}
    for path in sorted(bundle.directory.rglob("*")):
        name = path.relative_to(bundle.directory)
        if not path.is_dir() and name not in listed:
            raise UserError(f"{path}: is not listed in {MANIFEST}; remove it, or export the bundle again")
