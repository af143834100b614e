"""Usage data that libraries send to their makers. It is off, unless the user sets `POCKETBERT_TELEMETRY=1`."""

from __future__ import annotations

import os

# ONNX Runtime writes an identifier of the machine and events to the user's cache; BentoML and the hub's client send over HTTP.
OFF = {"ORT_DISABLE_TELEMETRY": "1", "BENTOML_DO_NOT_TRACK": "True", "HF_HUB_DISABLE_TELEMETRY": "1"}


def turn_off_telemetry() -> None:
    """Set the variables that the libraries read, unless the user has set them. To be called before they are imported."""
    if os.environ.get("POCKETBERT_TELEMETRY", "").lower() not in ("1", "true", "yes", "on"):
        for name, value in OFF.items():
            os.environ.setdefault(name, value)
