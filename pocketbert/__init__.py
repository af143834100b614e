"""pocketbert: make a small, fast text classifier from a BERT and labelled texts, and use it.

    from pocketbert import Classifier
    Classifier.load("artifacts/tickets/bundle").predict("Where is my parcel?")

docs/python.md shows all names. Each is imported when it is first used: `Classifier` loads neither torch nor transformers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compress import __version__
    from compress.recipe import Recipe, load_recipe
    from compress.runtime.errors import UserError
    from export.facts import BundleFacts
    from pocketbert.classifier import Classifier, Prediction, Predictions
    from pocketbert.diagnosis import Diagnosis, doctor
    from pocketbert.making import Student, compress, export, inspect
    from pocketbert.starter.draft import Draft, draft_recipe

__all__ = [
    "BundleFacts",
    "Classifier",
    "Diagnosis",
    "Draft",
    "Prediction",
    "Predictions",
    "Recipe",
    "Student",
    "UserError",
    "__version__",
    "compress",
    "doctor",
    "draft_recipe",
    "export",
    "inspect",
    "load_recipe",
]

_MODULES = {
    "compress": ["__version__"],
    "compress.recipe": ["Recipe", "load_recipe"],
    "compress.runtime.errors": ["UserError"],
    "export.facts": ["BundleFacts"],
    "pocketbert.classifier": ["Classifier", "Prediction", "Predictions"],
    "pocketbert.diagnosis": ["Diagnosis", "doctor"],
    "pocketbert.making": ["Student", "compress", "export", "inspect"],
    "pocketbert.starter.draft": ["Draft", "draft_recipe"],
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'pocketbert' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
