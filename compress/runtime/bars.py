"""Progress bars of libraries: drawn where somebody looks at them, and not in the output of scripts."""

from __future__ import annotations

import os
import sys

HUB = "HF_HUB_DISABLE_PROGRESS_BARS"  # transformers reads it too
DATASETS = "HF_DATASETS_DISABLE_PROGRESS_BARS"


def leave_bars_to_terminals() -> None:
    """Set the variables that the libraries read, unless the user has set them. To be called before they are imported."""
    watched = "ipykernel" in sys.modules or (sys.stderr is not None and sys.stderr.isatty())
    if not watched:
        for name in (HUB, DATASETS):
            os.environ.setdefault(name, "1")
