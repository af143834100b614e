"""What dev looked like: shares of labels and scores, and the tokens that occur in train."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import Whitespace

from compress.runtime.encode import TextEncoder
from export.bundle import TOKENIZER
from export.reference import dev_answers, seen_tokens, unseen


def test_the_bins_of_the_scores_hold_a_tenth_of_dev_each() -> None:
    scores = np.linspace(0.5, 1, 101)[1:]
    right = np.stack([scores, 1 - scores], axis=1)
    right[:25] = right[:25, ::-1]
    found = dev_answers(right.astype(np.float32), ["a", "b"])
    assert found.texts == 100
    assert found.labels == {"a": 0.75, "b": 0.25}
    assert found.score_shares == pytest.approx([0.1] * 10, abs=0.011)
    assert found.score_edges == pytest.approx(np.linspace(0.55, 0.95, 9), abs=0.006)


def test_scores_that_are_all_the_same_make_one_bin() -> None:
    found = dev_answers(np.array([[1.0, 0.0]] * 8, np.float32), ["a", "b"])
    assert (found.score_edges, found.score_shares) == ([1.0], [1.0, 0.0])
    assert found.labels == {"a": 1.0, "b": 0.0}


def test_a_token_is_seen_if_it_occurs_in_train(tiny_bundle: Path) -> None:
    encoder = TextEncoder(tiny_bundle / TOKENIZER, 64)
    found = seen_tokens(encoder, (["a good film", "very good"], None), (["the good film", "bad"], None), 0)
    mask = unseen(found)
    known = {name for name, number in encoder.tokenizer.get_vocab().items() if not mask[number]}
    assert known == {"[CLS]", "[SEP]", "a", "good", "film", "very"}
    assert found.unseen_share == 0.25  # "the" and "bad", of eight tokens with [CLS] and [SEP]
    pair = seen_tokens(encoder, (["a"], ["bad"]), (["a"], ["the"]), 0)
    assert not unseen(pair)[encoder.tokenizer.token_to_id("bad")]
    assert pair.unseen_share == 0.2


def test_the_ids_of_a_vocabulary_may_have_gaps() -> None:
    """A vocab.txt that names a token twice leaves one: the last id is then larger than the number of tokens."""
    tokenizer = Tokenizer(WordPiece({"[UNK]": 0, "good": 20, "bad": 40}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    found = seen_tokens(TextEncoder(tokenizer, 8), (["good"], None), (["good bad"], None), 0)
    assert [bool(unseen(found)[token]) for token in (0, 20, 40)] == [True, False, True]
    assert found.unseen_share == 0.5
