"""The labels of a fine-tuned teacher's head and those of the tables: which fit, and what is proposed where they do not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from compress.pipeline.stage import TaskTexts
from compress.recipe import Recipe
from compress.runtime.errors import UserError
from compress.teachers.head_labels import check_head_labels, proposal
from tests.compress.checking import check, refused, rewrite_json
from tests.tiny_teachers import tiny_teacher_of


def head(task: Callable[..., Recipe], tmp_path: Path, *names: str, **settings: str) -> Callable[..., Recipe]:
    """The task with a fine-tuned head that says these names; a text with a good word gets the first one."""
    directory = tiny_teacher_of("bert", tmp_path / "teacher", num_labels=len(names))
    numbers = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    rewrite_json(directory / "config.json", **numbers, **settings)
    return lambda *more: task("teacher.fine_tuned=true", "student.width=16", *more)


def test_a_head_with_other_names_fits_by_relabel(task: Callable[..., Recipe], tmp_path: Path) -> None:
    recipe = head(task, tmp_path, "NEG", "POS")
    line = refused(recipe())
    proposed = 'data.relabel = {"NEG" = "negative", "POS" = "positive"}'
    assert proposed in line
    check(recipe(proposed.replace(" = {", "={")))  # the cure that the line gives works
    other = head(task, tmp_path, "positive", "negative")
    assert 'data.labels = ["positive", "negative"]' in refused(other())
    check(other('data.labels=["positive","negative"]'))
    three = head(task, tmp_path, "negative", "neutral", "positive")
    assert 'data.labels = ["negative", "neutral", "positive"]' in refused(three())
    check(three('data.labels=["negative","neutral","positive"]'))


def test_a_head_that_is_no_classifier_is_refused(task: Callable[..., Recipe], tmp_path: Path) -> None:
    assert "gives scores (num_labels 1" in refused(head(task, tmp_path, "score")())
    several = head(task, tmp_path, "negative", "positive", problem_type="multi_label_classification")
    assert "gives several labels" in refused(several())


def test_names_that_say_nothing_are_proposed_from_the_models_answers(task: Callable[..., Recipe]) -> None:
    target, own, labels = task().target, ["LABEL_0", "LABEL_1"], ["negative", "positive"]
    assert proposal(own, labels) is None
    assert proposal(own, ["0", "1"]) == {"LABEL_0": "0", "LABEL_1": "1"}
    assert proposal(["a", "b"], ["c", "d"]) is None
    with pytest.raises(
        UserError, match=r'answers on dev \(90% right\) .*"LABEL_0" = "positive", "LABEL_1" = "negative"'
    ) as found:
        check_head_labels(own, labels, target, np.array([[1.0, 9.0], [9.0, 1.0]]))
    assert 'data.labels = ["positive", "negative"]' in str(found.value)
    with pytest.raises(UserError, match=r'data.relabel = {"LABEL_0" = …, "LABEL_1" = …}'):
        check_head_labels(own, labels, target, np.array([[5.0, 5.0], [5.0, 5.0]]))


def test_relabel_renames_the_labels_of_the_tables(task: Callable[..., Recipe]) -> None:
    corpus = TaskTexts(task('data.relabel={negative="bad"}')).corpus
    assert corpus.labels == ["bad", "positive"]
    with pytest.raises(UserError, match=r"data\.relabel: 'gone' is none of the labels"):
        _ = TaskTexts(task('data.relabel={x="gone"}')).corpus
