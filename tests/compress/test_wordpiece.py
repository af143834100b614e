"""nanotoken gives the ids of `tokenizers`, or is not used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from compress.runtime.encode import Encoded, TextEncoder
from compress.runtime.wordpiece import nanotoken_version

CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'-#[]éßσς影画한한"
WORDS = ["the", "film", "was", "un", "##believ", "##able", "##s", "naive", "straße", "σοφος"]
VERSION = nanotoken_version()


def wordpiece(*, lowercase: bool = True, sep_first: bool = False) -> Tokenizer:
    """A BERT tokenizer with a small vocabulary. `sep_first`: special tokens as no BERT has them."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *CHARACTERS, *(f"##{c}" for c in CHARACTERS), *WORDS]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    if sep_first:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[SEP] $A:1 [SEP]:1",
            pair="[SEP] $A:1 [CLS] [SEP]:1 $B:0",
            special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
        )
    else:
        tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def assert_equal(one: list[Encoded], other: list[Encoded]) -> None:
    assert len(one) == len(other)
    for expected, found in zip(one, other, strict=True):
        for name in ("input_ids", "type_ids", "segments"):
            left, right = getattr(expected, name), getattr(found, name)
            assert left.dtype == right.dtype == np.int64
            assert left.tolist() == right.tolist()
        assert expected.truncated == found.truncated


PAIRS_OF_ENCODERS = [
    (TextEncoder(tokenizer, length), TextEncoder(tokenizer, length, nanotoken=VERSION))
    for tokenizer in (wordpiece(), wordpiece(lowercase=False), wordpiece(sep_first=True))
    for length in (5, 8, 13, 64)
]
# Any Unicode, and strings of what tokenizers treat in special ways.
TEXT = st.one_of(
    st.text(max_size=40),
    st.text(
        st.sampled_from(
            [*CHARACTERS, *" \t\n\r\x00\x0b\x0c\x85\u00a0\u200b\u200d\u2028\u3000\ufeff\ufffd", *"İıﬁǅ\u0301\u0345"]
        )
    ),
    st.lists(st.sampled_from([*WORDS, "[CLS]", "[SEP]", "[MASK]", "[sep]", "unbelievables", "x" * 101, " ", "\n"])).map(
        "".join
    ),
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4), st.sampled_from(PAIRS_OF_ENCODERS))
def test_ids_types_and_segments_are_those_of_tokenizers_for_any_text(
    texts: list[tuple[str, str]], encoders: tuple[TextEncoder, TextEncoder]
) -> None:
    expected, fast = encoders
    assert (expected.library, fast.library) == ("tokenizers", "nanotoken")
    first, second = ([text[i] for text in texts] for i in (0, 1))
    assert_equal(expected.encode(first), fast.encode(first))
    assert_equal(expected.encode(first, second), fast.encode(first, second))


def test_both_texts_of_a_pair_are_cut_alike_at_every_length() -> None:
    tokenizer = wordpiece()
    for room in range(2, 9):
        expected, fast = (TextEncoder(tokenizer, room + 3, nanotoken=version) for version in (None, VERSION))
        texts = [("the " * first, "film " * second) for first in range(12) for second in range(12)]
        first, second = ([text[i] for text in texts] for i in (0, 1))
        assert_equal(expected.encode(first, second), fast.encode(first, second))


def test_another_version_than_the_checked_one_is_not_used() -> None:
    assert TextEncoder(wordpiece(), 16, nanotoken="0.0.1").library == "tokenizers"


def test_without_nanotoken_the_ids_come_from_tokenizers(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = TextEncoder(wordpiece(), 16, nanotoken=VERSION)
    monkeypatch.setattr("compress.runtime.encode.nanotoken_version", lambda: None)
    other = TextEncoder(wordpiece(), 16, nanotoken=VERSION)
    assert other.library == "tokenizers"
    assert_equal(other.encode(["The film was unbelievable"]), fast.encode(["The film was unbelievable"]))


def test_what_is_no_wordpiece_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="WordLevel"):
        TextEncoder(Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="b")), 16, nanotoken=VERSION)
