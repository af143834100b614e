"""Which bundle a server answers with. It is chosen once, for all workers, and copied, so that no later export changes it.

The process of `bentoml serve` makes a directory that only its user can read (`make_state`). The workers find it through an
environment variable. It holds the copy of the bundle, and what else the processes of one server share.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from compress.runtime.errors import UserError
from compress.runtime.files import write_text
from export.bundle import MANIFEST, Bundle

STATE = "POCKETBERT_STATE"  # set for the workers only; no setting of users
METRICS = "metrics"  # the directory in which the workers count
CHOICE, PREVIOUS, FAILURE, SWAP = "choice.json", "previous.json", "failure.txt", "swap.json"


class BundleChoice(BaseModel):
    """The bundle of a server: where it came from, where its copy is, and the SHA-256 of its manifest."""

    model_config = ConfigDict(frozen=True)

    origin: Path
    copied: Path
    sha256: str


def make_state() -> Path:
    """Make the server's directory and tell the workers of it. It is removed when this process ends.

    :raises UserError: no directory can be made.
    """
    try:
        state = Path(tempfile.mkdtemp(prefix="pocketbert-"))  # mode 700
    except OSError as error:
        raise UserError(
            f"no directory for the server's own files ({error.strerror}); set TMPDIR to a directory that can be written"
        ) from None
    atexit.register(_remove, state, os.getpid())
    os.environ[STATE] = str(state)
    return state


def state_directory() -> Path | None:
    """The directory of the server that this process belongs to. None: it belongs to none."""
    state = Path(os.environ.get(STATE, ""))
    return state if os.environ.get(STATE) and state.is_dir() else None


def choose(origin: Path, state: Path) -> BundleChoice:
    """Copy a bundle into the server's directory and check the copy. `write_choice` makes the workers use it.

    :raises UserError: there is no bundle, it is broken, or it cannot be copied.
    """
    bundle = Bundle(origin)
    copied = state / "bundles" / bundle.sha256
    if not copied.is_dir():
        part = state / "bundles" / f"{bundle.sha256}.part"
        try:
            shutil.rmtree(part, ignore_errors=True)
            for name in (MANIFEST, *bundle.manifest.files):
                (part / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(origin / name, part / name)
            part.rename(copied)
        except OSError as error:
            shutil.rmtree(part, ignore_errors=True)
            raise UserError(
                f"{origin}: cannot be copied to {state} ({error.strerror}); set TMPDIR to a directory with more room"
            ) from None
    sha256 = Bundle(copied).sha256
    if sha256 != copied.name:  # the bundle was exported again while it was copied
        shutil.rmtree(copied)
        raise UserError(f"{origin}: the bundle changed while it was copied; try again")
    return BundleChoice(origin=origin, copied=copied, sha256=sha256)


def write_choice(choice: BundleChoice, state: Path) -> None:
    """Make a bundle the server's. The one before stays for a rollback; what is older is removed."""
    before = read_choice(state)
    if before is not None and before != choice:
        _write(state / PREVIOUS, before)
    _write(state / CHOICE, choice)
    kept = {one.copied.name for one in (choice, read_choice(state, PREVIOUS)) if one is not None}
    for directory in (state / "bundles").iterdir():
        if directory.name not in kept:
            shutil.rmtree(directory, ignore_errors=True)


def read_choice(state: Path, name: str = CHOICE) -> BundleChoice | None:
    """The bundle that the server chose, or with `PREVIOUS` the one before it. None: there is none yet."""
    try:
        return BundleChoice.model_validate_json((state / name).read_bytes())
    except FileNotFoundError:
        return None


def serving_file(state: Path, pid: int) -> Path:
    """The file in which a worker writes the hash of the bundle that it answers with. It is not there before it serves."""
    return state / f"serves-{pid}"


def _write(path: Path, choice: BundleChoice) -> None:
    write_text(path, choice.model_dump_json())


def _remove(state: Path, owner: int) -> None:
    if os.getpid() == owner:  # a forked child ends too, and must leave the directory
        shutil.rmtree(state, ignore_errors=True)
