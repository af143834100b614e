"""Another bundle for a server that runs, without a request that fails. This is the part of the process that starts the workers.

A swap is asked for by SIGHUP, or by a worker that writes a `SwapRequest` and sends that signal (`serve.admin`). The bundle is
copied, checked, and loaded by a process of its own, where it must answer its golden examples as at its export. Only then are the
workers told: each loads it beside the old one and changes over. If anything fails, the old bundle goes on, and the reason is
logged and told to who asked.
`python -m serve.swap DIRECTORY` is that process.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import Lock, Thread
from time import sleep
from typing import Any

from pydantic import BaseModel, ConfigDict

from compress.runtime.errors import UserError
from compress.runtime.files import write_text
from export.bundle import Bundle, find_bundle
from export.golden import check_golden, check_teacher
from serve.bundle_choice import PREVIOUS, SWAP, BundleChoice, choose, read_choice, write_choice
from serve.drift import NO_REFERENCE
from serve.predictor import Predictor
from serve.settings import Settings
from serve.watch import WATCH_SECONDS, Watch

LOAD_SECONDS = 120
logger = logging.getLogger("bentoml.pocketbert")


class SwapRequest(BaseModel):
    """Which bundle to take: the one before (`rollback`), the one at `bundle`, or, without both, that of the settings.

    A bundle that asks clients for something else than the old one, or has other labels, is refused without `other_labels`.
    """

    model_config = ConfigDict(extra="forbid")

    bundle: Path | None = None
    rollback: bool = False
    other_labels: bool = False


class SwapResult(BaseModel):
    """What became of a swap: the bundle and the workers that will change to it, or why there is no change."""

    bundle: str | None = None
    workers: list[int] = []
    error: str | None = None


class Swapper:
    """Does the swaps of a server, one at a time and in a thread: the supervisor must go on looking after its workers."""

    def __init__(self, settings: Settings, state: Path) -> None:
        self._settings, self._state = settings, state
        self._one_at_a_time = Lock()

    def start(self, arbiter: Any) -> None:
        """Begin a swap. `arbiter` is the supervisor."""
        asked = self._state / SWAP
        request, name = SwapRequest(), None
        if asked.exists():
            name, _, content = asked.read_text(encoding="utf-8").partition("\n")
            request = SwapRequest.model_validate_json(content)
            asked.unlink()
        Thread(target=self._swap, args=(arbiter, request, name), daemon=True).start()

    def watch(self, arbiter: Any) -> None:
        """Begin to watch the directory of the settings, if they have one."""
        if self._settings.watch is not None:
            Thread(target=self._watch, args=(arbiter, self._settings.watch), daemon=True).start()

    def _watch(self, arbiter: Any, directory: Path) -> None:
        def take(version: Path) -> bool:
            return self._swap(arbiter, SwapRequest(bundle=version), None)

        served = read_choice(self._state)
        watch = Watch(directory, None if served is None else served.origin, take)
        while True:
            sleep(WATCH_SECONDS)
            watch.look()

    def _swap(self, arbiter: Any, request: SwapRequest, name: str | None) -> bool:
        """Do a swap; whether it succeeded."""
        with self._one_at_a_time:
            try:
                choice = self._checked(request)
                write_choice(choice, self._state)
            except (UserError, OSError) as error:  # a full disk must not end the thread that watches for versions
                result = SwapResult(error=" ".join(str(error).split()))
                logger.error("the bundle stays as it is: %s", result.error)
            else:
                workers = [pid for watcher in arbiter.watchers for pid in list(watcher.processes)]
                for pid in workers:
                    with suppress(ProcessLookupError):  # it has just ended; the next one begins with this bundle
                        os.kill(pid, signal.SIGHUP)
                result = SwapResult(bundle=choice.sha256, workers=workers)
                logger.info("the bundle is now %s of %s", choice.sha256[:16], choice.origin)
        if name is not None:
            write_text(self._state / name, result.model_dump_json())
        return result.error is None

    def _checked(self, request: SwapRequest) -> BundleChoice:
        """The choice, after a process of its own has loaded and run it.

        :raises UserError: there is no such bundle, or it cannot be served.
        """
        if request.rollback:
            choice = read_choice(self._state, PREVIOUS)
            if choice is None:
                raise UserError("there was no other bundle before; nothing to roll back to")
        else:
            choice = choose(find_bundle(request.bundle or self._settings.bundle_directory()), self._state)
        if not (request.rollback or request.other_labels):
            self._check_interface(choice)
        command = [sys.executable, "-m", "serve.swap", str(choice.copied)]
        root = Path(__file__).parents[1]
        try:
            done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=LOAD_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise UserError(f"{choice.origin}: not loaded within {LOAD_SECONDS} s") from None
        if done.returncode:
            lines = done.stderr.strip().splitlines()
            raise UserError(f"{choice.origin}: {lines[-1] if lines else f'loading it ended with {done.returncode}'}")
        if line := done.stdout.strip():
            logger.warning("%s", line)
        return choice

    def _check_interface(self, new: BundleChoice) -> None:
        """See that the clients of the old bundle understand the answers of the new one.

        :raises UserError: its labels, its domains or its kind of input are others.
        """
        old = read_choice(self._state)
        assert old is not None
        before, after = (Bundle(one.copied).manifest for one in (old, new))
        for what, values in {
            "labels": [sorted(one.labels) for one in (before, after)],
            "domains": [sorted(one.domains or {}) for one in (before, after)],
            "inputs": [["pairs" if one.pair else "single texts"] for one in (before, after)],
        }.items():
            if values[0] != values[1]:
                was, is_now = (", ".join(one) or "none" for one in values)
                raise UserError(
                    f'{new.origin}: other {what} ({is_now}; now {was}); send "other_labels": true if all clients know'
                )


def load(directory: Path) -> Predictor:
    """Load a bundle with the settings of this process.

    :raises UserError: it cannot be served.
    """
    return Predictor(Settings.from_environment().model_copy(update={"bundle": directory, "watch": None}))


def check(directory: Path) -> None:
    """Load a bundle and see that it answers its golden examples as at its export, if it has any. Print what it lacks.

    :raises UserError: it cannot be served, or an answer is another one.
    """
    bundle, predictor = Bundle(directory), load(directory)
    for domain, session in predictor.sessions.items():
        golden, cascade = bundle.golden(domain), predictor.cascades.get(domain)
        if golden is not None:
            check_golden(session, golden)
            if cascade is not None:
                check_teacher(cascade.teacher, golden, cascade.info.teacher, bundle.manifest.name)
    if predictor.drift is not None and predictor.drift.lacks_reference:
        print(NO_REFERENCE)


if __name__ == "__main__":
    try:
        check(Path(sys.argv[1]))
    except UserError as fault:
        sys.exit(" ".join(str(fault).split()))
