"""A teacher's outputs belong to the texts that it was asked about, and to no others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from compress.data.batches import EncodedSplit, SoftTargets
from compress.data.corpus import UNLABELLED
from compress.data.teacher_outputs import TeacherOutputs
from compress.runtime.encode import Encoded
from compress.teachers.outputs import fit_probe


def text(*ids: int, second: int = 0) -> Encoded:
    """A text of these tokens; the last `second` of them are the second text of a pair."""
    input_ids = torch.tensor(ids).numpy()
    segments = torch.tensor([0] * (len(ids) - second) + [1] * second).numpy()
    return Encoded(input_ids, segments, segments)


TEXTS = EncodedSplit([text(2, 7, 3), text(2, 8, 9, 3, second=1), text(2, 5, 3)], torch.tensor([1, 0, UNLABELLED]), 0)


def outputs() -> TeacherOutputs:
    logits = torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0], [0.0, 4.0, 1.0]])
    probes = torch.arange(18.0).view(3, 2, 3)
    return TeacherOutputs(TEXTS.fingerprint, SoftTargets(logits, probes), weights=torch.tensor([0.5, 1.0, 1.5]))


def test_what_was_saved_is_read_back(tmp_path: Path) -> None:
    whole = outputs()
    plain = TeacherOutputs(whole.texts, SoftTargets(whole.targets.logits))
    for name, saved in (("whole", whole), ("plain", plain)):
        (tmp_path / name).mkdir()
        saved.save(tmp_path / name)
    attached = TeacherOutputs.load(tmp_path / "whole").attach(TEXTS)
    assert attached.teacher is not None
    assert attached.teacher.probes is not None
    assert attached.weights is not None
    assert whole.targets.probes is not None
    assert torch.equal(attached.teacher.logits, whole.targets.logits)
    assert torch.equal(attached.teacher.probes, whole.targets.probes)
    assert attached.weights.tolist() == [0.5, 1.0, 1.5]
    bare = TeacherOutputs.load(tmp_path / "plain").attach(TEXTS)
    assert bare.teacher is not None
    assert bare.teacher.probes is None
    assert bare.weights is None


def test_an_unlabelled_text_gets_the_teachers_label_and_the_others_keep_theirs() -> None:
    assert outputs().attach(TEXTS).labels.tolist() == [1, 0, 1]  # the teacher would give the first one label 2
    assert TEXTS.labels.tolist() == [1, 0, UNLABELLED]


def test_domains_stay_with_their_texts() -> None:
    attached = outputs().attach(TEXTS.with_domains(torch.tensor([2, 0, 1])))
    assert attached.domains is not None
    assert attached.domains.tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    "others",
    [
        replace(TEXTS, encoded=[text(2, 7, 3), text(2, 8, 9, 3, second=1), text(2, 6, 3)]),
        replace(TEXTS, encoded=[text(2, 7, 3), text(2, 8, 9, 3, second=2), text(2, 5, 3)]),
        replace(TEXTS, encoded=[text(2, 7, 3, 2), text(8, 9, 3, second=1), text(2, 5, 3)]),
        TEXTS.subset([1, 0, 2]),
        TEXTS.subset([0, 1]),
        replace(TEXTS, labels=torch.tensor([0, 0, UNLABELLED])),
        replace(TEXTS, labels=torch.tensor([1, 0, 1])),
    ],
    ids=["another-text", "pair-cut-elsewhere", "texts-cut-elsewhere", "order", "fewer", "another-label", "labelled"],
)
def test_outputs_for_other_texts_are_refused(others: EncodedSplit, tmp_path: Path) -> None:
    outputs().save(tmp_path)
    with pytest.raises(ValueError, match="other texts, or to the same texts in another order"):
        TeacherOutputs.load(tmp_path).attach(others)


def probed(labels: list[int], classes: int) -> NDArray[np.float32]:
    """The probe's logits on features that have a column for each class; −1 marks a text without a label."""
    known = np.array(labels)
    hidden = np.eye(classes)[known.clip(0)] + 0.1 * np.random.default_rng(1).standard_normal((len(known), classes))
    return fit_probe(hidden.astype(np.float16), known, classes)


@pytest.mark.parametrize("classes", [2, 3, 150])
def test_a_probe_learns_sorted_labels(classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of a sample come from the whole table, and each class is among them."""
    monkeypatch.setattr("compress.teachers.outputs.PROBE_ROWS", max(2 * classes, 100))
    labels = [label for label in range(classes) for _ in range(max(5, 400 // classes))]
    logits = probed(labels, classes)
    assert logits.shape == (len(labels), classes)
    assert (logits.argmax(axis=1) == labels).mean() > 0.95
    assert np.array_equal(logits, probed(labels, classes))


@pytest.mark.parametrize(("missing", "classes"), [(2, 3), (0, 3), (1, 4)])
def test_a_class_without_examples_has_a_low_probability(missing: int, classes: int) -> None:
    labels = [label for label in range(classes) if label != missing for _ in range(50)] + [UNLABELLED] * 10
    logits = probed(labels, classes)
    assert logits.shape == (len(labels), classes)
    assert (logits[:-10].argmax(axis=1) == labels[:-10]).all()
    assert (logits[:, missing] == -20).all()
