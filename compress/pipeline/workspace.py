"""The results of stages on disk: a current result is not made again, and a new result replaces the old one in one step.

A lock keeps two runs out of one workspace.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from compress import __version__, processes
from compress.console import console
from compress.data.files import write_json
from compress.runtime.errors import UserError
from compress.runtime.files import recover_directory, remove_directory, replace_directory

KEY = "key"  # a file beside the checkpoints of a stage: the key of the inputs that they belong to
Maker = Callable[[Path, Path], None]  # writes the result into the first directory, and its checkpoints into the second


@dataclass(frozen=True)
class Workspace:
    """The artifacts of one recipe: `root/STAGE` holds a stage's result, `root/.stages/STAGE.json` what it was made from.

    Several recipes may need the same result, for example the same teacher. With a `store`, such a result is kept in the
    store under the key of its inputs, and `root/STAGE` is a link to it.
    """

    root: Path
    store: Path | None = None

    @contextmanager
    def locked(self, *, wait: bool = False) -> Iterator[None]:
        """Lock the workspace for this process and for the processes of the same run.

        The operating system removes the lock when the process ends, also when it is killed.

        :param wait: wait until the run that holds the lock has ended.
        :raises UserError: another run holds the lock and `wait` is false, or the directory cannot be made or written, or a process
            does not see the directory of the first one.
        """
        lock = FileLock(self.root / ".lock")
        if not processes.is_first():
            processes.barrier()
            if not Path(lock.lock_file).is_file():
                raise UserError(
                    f"{self.root}: is not here what it is for the first process; let --artifacts name a shared directory"
                )
            yield
            return
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(blocking=False)
            except Timeout:
                if not wait:
                    raise UserError(
                        f"{self.root}: another run is at work here; wait for it or give this one another recipe name"
                    ) from None
                console.print(f"  {self.root.name}: waiting for another run, which is making it")
                lock.acquire()
        except OSError as error:
            raise UserError(f"{self.root}: cannot be written ({error.strerror}); choose another directory") from None
        try:
            processes.barrier()
            yield
        finally:
            lock.release()

    def is_current(self, stage: str, key: str) -> bool:
        """Whether the stage's result exists, is complete, and was made from the inputs that `key` identifies."""
        recover_directory(self.root / stage)
        record = self._record(stage)
        if record is None or record["key"] != key:
            return False
        sizes = _sizes(self.root / stage) if (self.root / stage).is_dir() else None
        return sizes == record["sizes"]

    def is_current_for_all(self, stage: str, key: str) -> bool:
        """`is_current`, as the first process finds it: several processes must do the same."""
        return processes.broadcast_result(lambda: self.is_current(stage, key))

    def is_made(self, stage: str, key: str) -> bool:
        """Whether the stage's result is current, here or in the store."""
        if self.is_current(stage, key):
            return True
        return self.store is not None and self._home(stage, key).is_current(stage, key)

    def _home(self, stage: str, key: str) -> Workspace:
        """The place of a result in the store."""
        assert self.store is not None, "there is no store"
        return Workspace(self.store / f"{stage}-{key[:16]}")

    def run_shared(self, stage: str, key: str, make: Maker, *, force: bool = False) -> Path:
        """Like `run`, but the result is kept in the store if there is one.

        The first run that needs a result makes it. Other runs that need the same result wait for it.

        :param force: make the result again. Ignored with a store, because other recipes use what is stored.
        """
        if self.store is None:
            return self.run(stage, key, make, force=force)
        home = self._home(stage, key)
        with home.locked(wait=True):
            home.run(stage, key, make)
        if processes.is_first():
            self.link_result(stage, home)
        processes.barrier()
        return self.root / stage

    def link_result(self, stage: str, owner: Workspace) -> Path:
        """Use the result of a stage from another workspace: a link to it replaces this workspace's own result."""
        target, record = self.root / stage, self._record_file(stage)
        self.root.mkdir(parents=True, exist_ok=True)
        remove_directory(target)
        target.symlink_to((owner.root / stage).absolute())
        record.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(owner._record_file(stage), record)
        return target

    def move_result(self, stage: str, to: Workspace) -> None:
        """Give the result of a stage to another workspace, and keep a link to it."""
        source, target, record = self.root / stage, to.root / stage, to._record_file(stage)
        if source.is_symlink():
            to.link_result(stage, self)
            return
        record.parent.mkdir(parents=True, exist_ok=True)
        record.unlink(missing_ok=True)
        remove_directory(target)
        source.rename(target)
        shutil.copyfile(self._record_file(stage), record)
        self.link_result(stage, to)

    def seconds(self, stage: str) -> float | None:
        """How long it took to make the stage's result, in seconds. None if there is no result."""
        record = self._record(stage)
        return None if record is None else float(record["seconds"])

    def run(self, stage: str, key: str, make: Maker, *, force: bool = False) -> Path:
        """Make the stage's result with `make(directory, scratch)` unless it is current. Prints which of the two happened.

        `make` writes into a temporary directory beside the result. It replaces the result only when it is complete.
        Checkpoints that were made from other inputs are deleted first.

        :param force: make the result even if it is current, and without its checkpoints.
        :returns: the directory of the result.
        """
        target = self.root / stage
        if not force and self.is_current_for_all(stage, key):
            console.print(f"[green]✓[/] {stage}: up to date")
            return target
        if not processes.is_first():
            self._join(stage, make)
            return target
        console.print(f"[bold]▸ {stage}[/]")
        started = time.monotonic()
        scratch = self.root / ".work" / stage
        key_file = scratch / KEY
        if force or not key_file.exists() or key_file.read_bytes() != key.encode():
            _delete_checkpoints(scratch)
            scratch.mkdir(parents=True)
            key_file.write_text(key)
        temporary = self.root / f".{stage}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        processes.barrier()
        make(temporary, scratch)
        processes.barrier()  # other processes may still read the scratch directory
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

    def _join(self, stage: str, make: Maker) -> None:
        """`run` in a process that is not the first: it takes part in the trainings, and its files are deleted."""
        processes.barrier()
        temporary = (
            self.root / f".{stage}-{processes.rank()}.tmp"
        )  # here, so that the next run finds what a kill leaves
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        make(temporary, self.root / ".work" / stage)
        shutil.rmtree(temporary, ignore_errors=True)
        processes.barrier()
        processes.barrier()  # the first process has put the result in its place

    def _record_file(self, stage: str) -> Path:
        return self.root / ".stages" / f"{stage}.json"

    def _record(self, stage: str) -> dict[str, Any] | None:
        try:
            record = json.loads(self._record_file(stage).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):  # also what is no UTF-8, after a crash of the machine
            return None
        whole = isinstance(record, dict) and record.keys() >= {"key", "seconds", "sizes"}
        return record if whole else None


def _delete_checkpoints(scratch: Path) -> None:
    """Delete the scratch directory of a stage. Its key goes first: without it, what a kill leaves is never used."""
    (scratch / KEY).unlink(missing_ok=True)
    shutil.rmtree(scratch, ignore_errors=True)


def _sizes(directory: Path) -> dict[str, int]:
    return {str(p.relative_to(directory)): p.stat().st_size for p in sorted(directory.rglob("*")) if p.is_file()}
