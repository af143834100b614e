"""What libraries print by themselves: bars are drawn where somebody looks at them, and advice is left to our own messages."""

from __future__ import annotations

import os
import sys

HUB = "HF_HUB_DISABLE_PROGRESS_BARS"  # transformers reads it too
DATASETS = "HF_DATASETS_DISABLE_PROGRESS_BARS"
ADVICE = "TRANSFORMERS_NO_ADVISORY_WARNINGS"  # such as a line about a missing torch, before our own error


def quiet_libraries() -> None:
    """Set the variables that the libraries read, unless the user has set them. To be called before they are imported."""
    os.environ.setdefault(ADVICE, "1")
    watched = "ipykernel" in sys.modules or (sys.stderr is not None and sys.stderr.isatty())
    if not watched:
        for name in (HUB, DATASETS):
            os.environ.setdefault(name, "1")
