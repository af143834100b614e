"""Optimum's export of BERT, made in an environment of its own, beside ours."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.baseline import BaselineOptions
from bench.engines.onnx import count_weights
from bench.inputs import Texts
from bench.roster import Roster
from bench.task import Task
from compress.data.domains import load_student_corpus
from compress.recipe import load_recipe
from compress.runtime.errors import UserError

# `make optimum` makes it; CI does so before the tests.
OPTIMUM = Path(os.environ.get("OPTIMUM_PYTHON", Path(__file__).parents[2] / ".venv-optimum/bin/python"))
PAIRS = Texts(["the film was very good", "a film", "bad"], ["bad", "the film was not bad", "a very good film"])


def roster(task, optimum: Path) -> Roster:
    corpus = load_student_corpus(load_recipe(task.recipe))
    options = BaselineOptions(config=task.bert_config, optimum=optimum)
    return Roster(Task(task.teacher, task.bundle, corpus, task.max_length, "cpu", options))


@pytest.mark.skipif(not OPTIMUM.exists(), reason="no environment with Optimum: `make optimum` makes one")
def test_optimum_s_export_is_our_own_model_and_is_made_once(task):
    engines = roster(task, OPTIMUM)
    assert engines.names()[:5] == ["bert-torch", "bert-onnx", "bert-onnx-int8", "bert-optimum", "bert-optimum-int8"]
    logits = {}
    for name in engines.names()[:5]:
        model = engines.engine(name).open(threads=1, device="cpu")
        logits[name] = model.logits(model.encode(PAIRS))
    np.testing.assert_allclose(logits["bert-optimum"], logits["bert-torch"], atol=1e-5)
    assert not np.allclose(logits["bert-optimum-int8"], logits["bert-torch"], atol=1e-6)  # it is quantised
    np.testing.assert_allclose(logits["bert-optimum-int8"], logits["bert-torch"], atol=0.05)
    engine = engines.engine("bert-optimum-int8")
    assert "exported by optimum-onnx" in engine.note
    assert count_weights(engine.path) == count_weights(engines.engine("bert-onnx").path)
    before = engine.path.stat().st_mtime_ns
    assert roster(task, OPTIMUM).engine("bert-optimum-int8").path.stat().st_mtime_ns == before


def test_without_an_interpreter_for_it_it_is_no_engine(task):
    corpus = load_student_corpus(load_recipe(task.recipe))
    plain = Roster(Task(task.teacher, task.bundle, corpus, task.max_length, "cpu", BaselineOptions()))
    assert not [name for name in plain.names() if "optimum" in name]


@pytest.mark.parametrize(
    ("python", "message"),
    [
        (Path("nowhere/python"), "--optimum nowhere/python: cannot be run"),
        (Path(sys.executable), "it has no optimum-onnx; `make optimum` makes an environment"),
    ],
)
def test_an_interpreter_without_optimum_is_one_line(task, python: Path, message: str):
    with pytest.raises(UserError, match=message) as caught:
        roster(task, python).engine("bert-optimum")
    assert "\n" not in str(caught.value)
