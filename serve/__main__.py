"""`python -m serve`: `bentoml serve` with the same options, after a check of the places that BentoML writes to."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import serve  # noqa: F401 - turns telemetry off before BentoML is imported


def main(arguments: list[str]) -> None:
    """Start the server.

    BentoML makes its directory when it is imported, and ends in a traceback where it cannot.
    """
    home = Path(os.environ.get("BENTOML_HOME") or Path("~/bentoml").expanduser())
    try:
        home.mkdir(parents=True, exist_ok=True)
        if not os.access(home, os.W_OK):
            raise PermissionError(13, os.strerror(13))
    except OSError as error:
        sys.exit(
            f"error: {home}: BentoML cannot write there ({error.strerror}); set BENTOML_HOME to a directory that can be made"
        )
    from bentoml_cli.cli import cli

    cli(["serve", *arguments], prog_name="python -m")


if __name__ == "__main__":
    main(sys.argv[1:])
