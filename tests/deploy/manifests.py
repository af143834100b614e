"""The files of deploy/ that are not code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
KUBERNETES = DEPLOY / "kubernetes"


def read(path: Path) -> Any:
    """A YAML file with one document."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def resource(kind: str) -> dict[str, Any]:
    """The manifest of this kind."""
    [found] = [one for one in map(read, KUBERNETES.glob("*.yaml")) if one["kind"] == kind]
    return found
