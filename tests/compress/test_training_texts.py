"""The texts that a student learns from stand in one order, whoever asks for them."""

from __future__ import annotations

import pytest
import torch

from compress.data.corpus import UNLABELLED, Split
from compress.data.training_texts import TrainingTexts
from compress.runtime.encode import TextEncoder
from tests.tiny_task import tiny_teacher

OWN = Split(["good film", "bad film"], None, [1, 0], ["films", "films"])
SOURCE = Split(["good book"], None, [1], ["books"])
UNKNOWN = Split(["the song"], None, [UNLABELLED], None)
MADE = Split(["good song", "bad song"], None, [UNLABELLED] * 2, ["films", "films"])
ALL = TrainingTexts(own=OWN, source=SOURCE, unlabelled=UNKNOWN, augmented=MADE)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    return TextEncoder(tiny_teacher(tmp_path_factory.mktemp("bert")) / "tokenizer.json", 32)


def test_own_texts_come_first_then_source_unlabelled_and_augmented_ones(encoder: TextEncoder) -> None:
    encoded = ALL.encode(encoder)
    texts = ["good film", "bad film", "good book", "the song", "good song", "bad song"]
    expected = encoder.encode(texts)
    assert len(ALL) == len(encoded) == 6
    assert [e.input_ids.tolist() for e in encoded.encoded] == [e.input_ids.tolist() for e in expected]
    assert encoded.labels.tolist() == [1, 0, 1, UNLABELLED, UNLABELLED, UNLABELLED]
    again = TrainingTexts(augmented=MADE, unlabelled=UNKNOWN, source=SOURCE, own=OWN)  # however they are named
    assert again.encode(encoder).fingerprint == encoded.fingerprint


def test_a_kind_that_is_missing_leaves_no_gap(encoder: TextEncoder) -> None:
    some = TrainingTexts(own=OWN, augmented=MADE)
    encoded = some.encode(encoder)
    assert [len(some), len(TrainingTexts(own=OWN))] == [4, 2]
    whole = ALL.encode(encoder)
    assert encoded.fingerprint == whole.subset([0, 1, 4, 5]).fingerprint
    assert torch.equal(TrainingTexts(own=OWN).encode(encoder).labels, torch.tensor([1, 0]))


def test_domains_are_in_the_order_of_the_texts() -> None:
    texts = TrainingTexts(own=OWN, source=SOURCE, augmented=MADE)
    assert texts.domains == ["films", "films", "books", "films", "films"]
    assert TrainingTexts(own=UNKNOWN).domains == []


def test_pairs_are_joined_as_pairs(encoder: TextEncoder) -> None:
    own = Split(["good film"], ["bad film"], [1], None)
    made = Split(["bad song"], ["good song"], [UNLABELLED], None)
    encoded = TrainingTexts(own=own, augmented=made).encode(encoder)
    expected = encoder.encode(["good film", "bad song"], ["bad film", "good song"])
    assert [e.segments.tolist() for e in encoded.encoded] == [e.segments.tolist() for e in expected]
    assert [e.input_ids.tolist() for e in encoded.encoded] == [e.input_ids.tolist() for e in expected]
