"""The texts for the timings."""

import pytest
from tokenizers import Tokenizer

from bench.inputs import TextBuilder, Texts, batches, sorted_by_length, token_counts
from compress.runtime.encode import TextEncoder
from compress.runtime.errors import UserError

OWN = [
    "the film was very good",
    "a good unwatchable book",
    "the plot is good and the book was good.",
    "bad rewatchable plot",
    "the plot was not bad",
    "a very bad film.",
]


@pytest.mark.parametrize("length", [4, 5, 13, 32, 128])
def test_texts_come_to_exactly_the_length(tokenizer_file, length):
    texts = TextBuilder(tokenizer_file, Texts(OWN)).build(length, 20)
    counts = [len(Tokenizer.from_file(str(tokenizer_file)).encode(text).ids) for text in texts.first]
    assert counts == [length] * 20


def test_pairs_come_to_exactly_the_length(tokenizer_file):
    texts = TextBuilder(tokenizer_file, Texts(OWN, OWN[::-1])).build(32, 10)
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    assert [len(tokenizer.encode(a, b).ids) for a, b in zip(texts.first, texts.second, strict=True)] == [32] * 10


def test_texts_differ_and_hold_only_the_tasks_words(tokenizer_file):
    texts = TextBuilder(tokenizer_file, Texts(OWN)).build(12, 20)
    assert len(set(texts.first)) > 10
    words = {word for text in OWN for word in text.replace(".", " .").split()}
    assert {word for text in texts.first for word in text.replace(".", " .").split()} <= words


def test_a_length_that_the_words_cannot_make_is_an_error(tokenizer_file):
    # Every word here is three tokens, un ##watch ##able, so with [CLS] and [SEP] only 2 + 3k can be reached.
    builder = TextBuilder(tokenizer_file, Texts(["unwatchable", "rewatchable"]))
    assert len(builder.build(11, 1)) == 1
    with pytest.raises(UserError, match="no text of exactly 12 tokens"):
        builder.build(12, 1)


def test_batches_keep_the_order_and_every_text(tokenizer_file):
    texts = Texts([str(i) for i in range(7)], [str(-i) for i in range(7)])
    cut = batches(texts, 3)
    assert [batch.first for batch in cut] == [["0", "1", "2"], ["3", "4", "5"], ["6"]]
    assert cut[2].second == ["-6"]


def test_sorted_by_length_counts_tokens(tokenizer_file):
    encoder = TextEncoder(tokenizer_file, 48)
    texts = Texts(["unwatchable", "a film"])  # one word of three tokens, two words of one
    assert sorted_by_length(texts, encoder).first == ["a film", "unwatchable"]
    assert token_counts(texts, encoder) == [5, 4]
