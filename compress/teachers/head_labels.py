"""The label names of a fine-tuned head beside those of the data."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment
from transformers import PretrainedConfig

from compress.recipe.sections import DataOptions
from compress.runtime.errors import UserError

SHOWN = 20  # labels in a message


def head_labels(config: PretrainedConfig, target: DataOptions) -> list[str]:
    """The names of a head's classes in order, as the recipe's `relabel` renames them.

    :raises UserError: the head does not tell classes apart: it has one output, or each class is a yes or no.
    """
    if config.num_labels < 2 or config.problem_type in ("regression", "multi_label_classification"):
        what = "gives scores" if config.problem_type != "multi_label_classification" else "gives several labels"
        raise UserError(
            f"teacher.fine_tuned: the head of this model {what} (num_labels {config.num_labels}, problem_type {config.problem_type}); "
            "a teacher needs a head with one class for a text: leave fine_tuned out"
        )
    names = [str(config.id2label[number]) for number in range(config.num_labels)]
    return [target.relabel.get(name, name) for name in names]


def check_head_labels(own: list[str], labels: list[str], target: DataOptions, votes: np.ndarray | None = None) -> None:
    """Check that a fine-tuned head has the classes of the data, in their order.

    :param own: of the head, see `head_labels`.
    :param labels: of the data.
    :param votes: (classes of the head, labels): how many texts of a label the head gives to a class; for a proposal.
    :raises UserError: it has not. The message proposes settings that make them fit, if any would.
    """
    if own == labels:
        return
    section = target.section
    if sorted(own) == sorted(labels):
        raise UserError(
            f"teacher.fine_tuned: the model's labels are {_shown(own)}, the data's {_shown(labels)}; set {section}.labels to the "
            f"model's order: {section}.labels = {_toml_list(own)}"
        )
    start = f"teacher.fine_tuned: the model's labels are {_shown(own)}, the data's {_shown(labels)}"
    if len(own) > len(labels) and set(labels) < set(own):
        raise UserError(f"{start}; name all of the model's: {section}.labels = {_toml_list(own)}")
    found, why = proposal(own, labels), "by their names"
    if found is None and votes is not None and len(own) == len(labels):
        found, why = _by_votes(own, labels, votes)
    if found is None:
        raise UserError(
            f"{start}; say by {section}.relabel which label each of the model's is: {section}.relabel = "
            f"{{{', '.join(f'{_key(name)} = …' for name in own[:SHOWN])}}}"
        )
    pairs = ", ".join(f"{_key(name)} = {_key(found[name])}" for name in own if found[name] != name)
    order = [found[name] for name in own]
    more = "" if order == labels else f" and {section}.labels = {_toml_list(order)}"
    raise UserError(f"{start}; {why} they would fit with {section}.relabel = {{{pairs}}}{more}")


def proposal(own: Sequence[str], labels: Sequence[str]) -> dict[str, str] | None:
    """The data's name of each of the head's classes, if it is plain from the names: NEG and negative, LABEL_0 and 0."""
    if len(own) != len(labels):
        return None
    found: dict[str, str] = {}
    for name in own:
        fitting = [label for label in labels if _same(name, label)]
        if len(fitting) != 1 or fitting[0] in found.values():
            return None
        found[name] = fitting[0]
    return found


def _same(name: str, label: str) -> bool:
    a, b = (re.sub(r"^label[_ -]?(?=\d)", "", text.strip().casefold()) for text in (name, label))
    return a == b or (min(len(a), len(b)) >= 3 and (a.startswith(b) or b.startswith(a)))


def _by_votes(own: list[str], labels: list[str], votes: np.ndarray) -> tuple[dict[str, str] | None, str]:
    """The assignment of classes to labels that agrees with most texts, if it is better than chance."""
    classes, columns = linear_sum_assignment(-votes)
    agreement = votes[classes, columns].sum() / max(1, votes.sum())
    if agreement < (1 + 1 / len(labels)) / 2:
        return None, ""
    found = {own[i]: labels[j] for i, j in zip(classes, columns, strict=True)}
    return found, f"by the model's answers on dev ({agreement:.0%} right)"


def _shown(names: list[str]) -> str:
    return str(names) if len(names) <= SHOWN else f"{str(names[:SHOWN])[:-1]}, … {len(names) - SHOWN} more]"


def _key(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _toml_list(names: Sequence[str]) -> str:
    return f"[{', '.join(map(_key, names))}]"
