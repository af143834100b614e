"""Is a bundle whole, and does it answer here as it did at export? No torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from compress.runtime.errors import UserError
from export.bundle import MANIFEST, Bundle
from export.golden import check_golden, check_teacher
from export.manifest import Cascade
from export.session import BundleSession, is_for, teacher_session
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
                difference = check_golden(session, golden)
                yield f"{title}: {len(golden.texts)} golden examples, logits within {difference:.1e} of those at export"
        if part.cascade is not None:
            yield _check_teacher(bundle, part.cascade, domain, device)


def _check_teacher(bundle: Bundle, cascade: Cascade, domain: str | None, device: str) -> str:
    manifest, golden = bundle.manifest, bundle.golden(domain)
    title = f"{'' if domain is None else f'{domain}, '}teacher in {cascade.precision}"
    difference = None
    if golden is not None:
        teacher = teacher_session(bundle.directory, cascade, manifest.max_length, device=device)
        difference = check_teacher(teacher, golden, cascade.precision, manifest.name)
    if golden is None or golden.teacher is None:
        return f"{title}: its answers were not compared, since the bundle has no golden examples of it; export it again with --force"
    return f"{title}: {len(golden.teacher.logits)} golden examples, logits within {difference:.1e} of those at export"


def _check_files(bundle: Bundle) -> None:
    """Refuse what the manifest does not list: nobody has vouched for it."""
    listed = {Path(name) for name in bundle.manifest.files} | {Path(MANIFEST)}
    for path in sorted(bundle.directory.rglob("*")):
        name = path.relative_to(bundle.directory)
        if not path.is_dir() and name not in listed:
            raise UserError(f"{path}: is not listed in {MANIFEST}; remove it, or export the bundle again")
