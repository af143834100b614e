"""Stages: skip what is already made, replace a result as a whole, keep two runs out of each other's way."""

from __future__ import annotations

import fcntl
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compress import __version__, processes
from compress.console import console
from compress.data.files import recover_directory, replace_directory, write_json
from compress.runtime.errors import UserError

KEY = "key"  # a file beside the checkpoints of a stage: the key of the inputs that they belong to
Maker = Callable[[Path, Path], None]  # fills a directory; the second one keeps its checkpoints while it runs


@dataclass(frozen=True)
class Workspace:
    """The artifacts of one recipe: `root/STAGE` holds a stage's result, `root/.stages/STAGE.json` what it was made from.

    With a `store`, stages that several recipes may share (the teacher of a table's rows, say) are kept there by the key
    of their inputs, and `root/STAGE` is a link to them.
    """

    root: Path
    store: Path | None = None

    @contextmanager
    def locked(self, *, wait: bool = False) -> Iterator[None]:
        """Hold the workspace for this process and those that it works with.

        :param wait: until another run that holds it is done.
        :raises UserError: another run holds it, or the directory cannot be made or written.
        """
        if not processes.is_first():
            yield
            return
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = (self.root / ".lock").open("w")
        except OSError as error:
            raise UserError(f"{self.root}: cannot be written ({error.strerror}); choose another directory") from None
        with lock as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait:
                    raise UserError(
                        f"{self.root}: another run is at work here; wait for it or give this one another recipe name"
                    ) from None
                console.print(f"  {self.root.name}: waiting for another run, which is making it")
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def is_current(self, stage: str, key: str) -> bool:
        """Whether the stage's result is there, whole, and made from the inputs behind `key`."""
        recover_directory(self.root / stage)
        record = self._record(stage)
        if record is None or record["key"] != key:
            return False
        sizes = _sizes(self.root / stage) if (self.root / stage).is_dir() else None
        return sizes == record["sizes"]

    def run_shared(self, stage: str, key: str, make: Maker, *, force: bool = False) -> Path:
        """`run`, in the store if there is one, where runs that want the same wait for the first to make it.

        `force` then makes nothing anew: others rely on what is stored.
        """
        if self.store is None:
            return self.run(stage, key, make, force=force)
        home = Workspace(self.store / f"{stage}-{key[:16]}")
        with home.locked(wait=True):
            home.run(stage, key, make)
        if processes.is_first():
            self.borrow(stage, home)
        processes.barrier()
        return self.root / stage

    def borrow(self, stage: str, owner: Workspace) -> Path:
        """Take the result of a stage from another workspace, as a link to it, in the place of an own one."""
        target, record = self.root / stage, self._record_file(stage)
        self.root.mkdir(parents=True, exist_ok=True)
        if target.is_symlink():
            target.unlink()
        shutil.rmtree(target, ignore_errors=True)
        target.symlink_to((owner.root / stage).absolute())
        record.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(owner._record_file(stage), record)
        return target

    def seconds(self, stage: str) -> float | None:
        """How long the stage took to make, in seconds; None if it has not been made."""
        record = self._record(stage)
        return None if record is None else float(record["seconds"])

    def run(self, stage: str, key: str, make: Maker, *, force: bool = False) -> Path:
        """Make the stage's result with `make(directory, scratch)`, or skip it when it is current, and say which.

        `make` fills a temporary sibling, which takes the result's place only when it is complete.
        Checkpoints of other inputs are thrown away before it starts.
        """
        target = self.root / stage
        if processes.broadcast_result(lambda: not force and self.is_current(stage, key)):
            console.print(f"[green]✓[/] {stage}: up to date")
            return target
        if not processes.is_first():
            self._help(stage, make)
            return target
        console.print(f"[bold]▸ {stage}[/]")
        started = time.monotonic()
        scratch = self.root / ".work" / stage
        owner = scratch / KEY
        if force or not owner.exists() or owner.read_text() != key:
            _delete_checkpoints(scratch)
            scratch.mkdir(parents=True)
            owner.write_text(key)
        temporary = self.root / f".{stage}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        processes.barrier()
        make(temporary, scratch)
        processes.barrier()  # the others may still read what is in the scratch directory
        record = self._record_file(stage)
        record.parent.mkdir(exist_ok=True)
        record.unlink(missing_ok=True)
        sizes = _sizes(temporary)
        replace_directory(temporary, target)
        seconds = round(time.monotonic() - started, 1)
        write_json(record, {"key": key, "seconds": seconds, "version": __version__, "sizes": sizes})
        _delete_checkpoints(scratch)
        console.print(f"[green]✓[/] {stage}: done in {seconds:.0f} s")
        processes.barrier()
        return target

    def _help(self, stage: str, make: Maker) -> None:
        """Another process's part of `run`: it makes the same, sharing the trainings, and what it writes is thrown away."""
        processes.barrier()
        with tempfile.TemporaryDirectory() as directory:
            make(Path(directory), self.root / ".work" / stage)
        processes.barrier()
        processes.barrier()  # until the first has put the result in its place

    def _record_file(self, stage: str) -> Path:
        return self.root / ".stages" / f"{stage}.json"

    def _record(self, stage: str) -> dict[str, Any] | None:
        try:
            return json.loads(self._record_file(stage).read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return None


def _delete_checkpoints(scratch: Path) -> None:
    """Delete the scratch directory of a stage. Its key goes first: without it, what a kill leaves is never used."""
    (scratch / KEY).unlink(missing_ok=True)
    shutil.rmtree(scratch, ignore_errors=True)


def _sizes(directory: Path) -> dict[str, int]:
    return {str(p.relative_to(directory)): p.stat().st_size for p in sorted(directory.rglob("*")) if p.is_file()}
