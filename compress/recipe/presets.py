"""Presets: the names of combinations of teacher, augmentation, student and objective.

The settings of a recipe always win over those of its preset. If a recipe chooses another method for one of the four, the
preset's settings of that one do not count.
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
    "l2a": {
        "augmentation": {"method": "l2a"},
        "student": _COPY,
    },  # the objective depends on the student: see `_OBJECTIVE`
    "bilstm": {
        "augmentation": {"method": "sampling"},
        "student": {"kind": "bilstm"},
        "objective": {"method": "mse"},
    },
}
# The preset of a recipe without one, by the kind of its student.
_DEFAULT_PRESET = {"cnn": "adabert", "transformer": "logits", "bilstm": "bilstm"}
# The sections that have several forms, and the setting that chooses the form.
AXES = {"augmentation": "method", "student": "kind", "objective": "method"}
# The choices of a preset that does not make them.
_DEFAULT_FORM = {"augmentation": "none", "student": "transformer"}
# The objective of a preset without one, by the kind of the student.
_OBJECTIVE = {"cnn": "probes", "transformer": "tinybert", "bilstm": "mse"}
# The training settings by the kind of the student. A copied BERT is fine-tuned, the others are trained from scratch.
_TRAINING: dict[str, Table] = {
    "cnn": {"steps": 10_000, "batch_size": 64, "learning_rate": 2e-3, "average": 0.998},
    "transformer": {"epochs": 4, "batch_size": 32, "learning_rate": 1e-4, "average": 0.0},
    "bilstm": {"epochs": 10, "batch_size": 64, "learning_rate": 2e-3, "average": 0.998},
}


def fill_in(table: Table) -> Table:
    """The recipe's table with the settings that follow from its preset and the kind of its student.

    An unknown preset or kind is no error here. The validation reports it.
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
        default = _DEFAULT_FORM.get(axis) or _OBJECTIVE.get(_value(out, "student", "kind"), "logits")
        chosen = preset.get(axis, {tag: default})
        if given.setdefault(tag, chosen[tag]) == chosen[tag]:
            out[axis] = {**chosen, **given}
    if _value(out, "objective", "method") == "none" and "augmentation" not in table:
        out["augmentation"] = {"method": "none"}  # there is no teacher to label augmented texts
    compress = out.setdefault("compress", {})
    if isinstance(compress, dict):
        training = _TRAINING.get(_value(out, "student", "kind"), _TRAINING["cnn"])
        if "epochs" in compress or "steps" in compress:
            training = {name: value for name, value in training.items() if name not in ("epochs", "steps")}
        out["compress"] = {"preset": _preset_name(table), **training, **compress}
    return out


def _preset_name(table: Table) -> str:
    """The preset of the table. Without one, it follows from the student or the objective."""
    named = _value(table, "compress", "preset") or _DEFAULT_PRESET.get(_value(table, "student", "kind"))
    method = _value(table, "objective", "method")
    return named or (method if method in FEATURE_METHODS else "adabert")


def _value(table: Table, section: str, key: str) -> str:
    """A string of the table, or "" if there is none. The validation reports a missing or wrong value."""
    values = table.get(section)
    value = values.get(key) if isinstance(values, dict) else None
    return value if isinstance(value, str) else ""
