"""What the environment decides about serving: which bundle, how it runs, what a request may hold. No torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from compress.runtime.errors import UserError
from compress.runtime.session import PROVIDERS
from export.bundle import newest_bundle


@dataclass(frozen=True)
class Limits:
    """What one request may hold; anything above is answered 413."""

    texts: int = 256
    characters: int = 20_000  # of one text
    body_bytes: int = 1_048_576


@dataclass(frozen=True)
class Settings:
    """The `POCKETBERT_*` variables; `from_environment` reads them."""

    directory: Path | None = None  # POCKETBERT_BUNDLE
    artifacts: Path = Path("artifacts")  # POCKETBERT_ARTIFACTS, searched where no bundle is named
    precision: str | None = None  # POCKETBERT_PRECISION, default the bundle's own
    threads: int = 1  # POCKETBERT_THREADS, of one worker
    device: str = "cpu"  # POCKETBERT_DEVICE
    workers: int = 1  # POCKETBERT_WORKERS
    limits: Limits = Limits()  # POCKETBERT_MAX_TEXTS, _MAX_CHARACTERS, _MAX_BYTES

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Read the variables; one that is unset or empty takes its default, and a path starts at the working directory.

        :raises UserError: a value is impossible; names the variable.
        """
        directory = environment.get("POCKETBERT_BUNDLE")
        device = environment.get("POCKETBERT_DEVICE") or cls.device
        if device not in PROVIDERS:
            raise UserError(f"POCKETBERT_DEVICE={device}: set it to {' or '.join(PROVIDERS)}")
        return cls(
            directory=Path(directory).absolute() if directory else None,
            artifacts=Path(environment.get("POCKETBERT_ARTIFACTS") or cls.artifacts).absolute(),
            precision=environment.get("POCKETBERT_PRECISION") or None,
            threads=_count(environment, "POCKETBERT_THREADS", cls.threads),
            device=device,
            workers=_count(environment, "POCKETBERT_WORKERS", cls.workers),
            limits=Limits(
                texts=_count(environment, "POCKETBERT_MAX_TEXTS", Limits.texts),
                characters=_count(environment, "POCKETBERT_MAX_CHARACTERS", Limits.characters),
                body_bytes=_count(environment, "POCKETBERT_MAX_BYTES", Limits.body_bytes),
            ),
        )

    def bundle_directory(self) -> Path:
        """The bundle that is named, else the newest under `artifacts`.

        :raises UserError: none is named and there is none.
        """
        return self.directory or newest_bundle(self.artifacts)


def _count(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name) or str(default)
    # isdecimal alone would take digits of other scripts
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise UserError(f"{name}={text}: set it to a whole number above 0")
    return int(text)
