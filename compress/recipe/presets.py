"""Presets: a method is a point on four axes (teacher, augmentation, student, objective), and a preset is a point's name.

What a recipe sets itself always wins. Where it chooses another method on an axis, the preset has nothing to say there.
"""

from __future__ import annotations

from typing import Any

from compress.recipe.sections import FEATURE_METHODS

Table = dict[str, Any]

_COPY = {"kind": "transformer", "init": "teacher"}
PRESETS: dict[str, Table] = {
    "adabert": {
        "augmentation": {"method": "spans"},
        "student": {"kind": "cnn"},
        "objective": {"method": "probes"},
    },
    "none": {"student": {"kind": "transformer", "init": "pretrained"}, "objective": {"method": "none"}},
    "logits": {"student": _COPY, "objective": {"method": "logits"}},
    "distilbert": {"student": _COPY, "objective": {"method": "distilbert"}},
    "pkd": {"student": _COPY, "objective": {"method": "pkd"}},
    "minilm": {"student": _COPY, "objective": {"method": "minilm"}},
    "tinybert": {"augmentation": {"method": "tinybert"}, "student": _COPY, "objective": {"method": "tinybert"}},
    "metakd": {"teacher": {"method": "meta"}, "student": _COPY, "objective": {"method": "tinybert"}},
    "l2a": {"augmentation": {"method": "l2a"}, "student": _COPY},  # for any student: see `_OBJECTIVE`
    "bilstm": {
        "augmentation": {"method": "sampling"},
        "student": {"kind": "bilstm"},
        "objective": {"method": "mse"},
    },
}
# The preset of a recipe that names none, by the kind of its student.
_DEFAULT_PRESET = {"cnn": "adabert", "transformer": "logits", "bilstm": "bilstm"}
# The axes and the key that names the method on each.
AXES = {"augmentation": "method", "student": "kind", "objective": "method"}
_ELSEWHERE = {"augmentation": "none", "student": "transformer"}
# Of a preset that leaves it open, by the kind of the student.
_OBJECTIVE = {"cnn": "probes", "transformer": "tinybert", "bilstm": "mse"}
# How long and in what steps a student trains, by its kind: a copied BERT is fine-tuned, the others learn from scratch.
_TRAINING: dict[str, Table] = {
    "cnn": {"epochs": 5, "batch_size": 64, "learning_rate": 2e-3, "average": 0.998},
    "transformer": {"epochs": 4, "batch_size": 32, "learning_rate": 1e-4, "average": 0.0},
    "bilstm": {"epochs": 10, "batch_size": 64, "learning_rate": 2e-3, "average": 0.998},
}


def fill_in(table: Table) -> Table:
    """The recipe's table with what its preset and the kind of its student imply.

    An unknown preset or kind is left for the validation to name.
    """
    out = {name: dict(value) if isinstance(value, dict) else value for name, value in table.items()}
    preset = PRESETS.get(_preset_name(out), {})
    teacher = out.setdefault("teacher", {})
    if isinstance(teacher, dict):
        out["teacher"] = {**preset.get("teacher", {}), **teacher}
    for axis, tag in AXES.items():
        given = out.setdefault(axis, {})
        if not isinstance(given, dict):
            continue
        elsewhere = _ELSEWHERE.get(axis) or _OBJECTIVE.get(_value(out, "student", "kind"), "logits")
        point = preset.get(axis, {tag: elsewhere})
        if given.setdefault(tag, point[tag]) == point[tag]:
            out[axis] = {**point, **given}
    if _value(out, "objective", "method") == "none" and "augmentation" not in table:
        out["augmentation"] = {"method": "none"}  # there is no teacher to label augmented texts
    compress = out.setdefault("compress", {})
    if isinstance(compress, dict):
        training = _TRAINING.get(_value(out, "student", "kind"), _TRAINING["cnn"])
        out["compress"] = {"preset": _preset_name(table), **training, **compress}
    return out


def _preset_name(table: Table) -> str:
    """The preset that the table names, or else the one that its student or objective suggests."""
    named = _value(table, "compress", "preset") or _DEFAULT_PRESET.get(_value(table, "student", "kind"))
    method = _value(table, "objective", "method")
    return named or (method if method in FEATURE_METHODS else "adabert")


def _value(table: Table, section: str, key: str) -> str:
    """A string of the table, or "" where there is none (the validation says so if there should be)."""
    values = table.get(section)
    value = values.get(key) if isinstance(values, dict) else None
    return value if isinstance(value, str) else ""
