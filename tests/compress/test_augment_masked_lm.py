"""The masked language model of CBERT and of TinyBERT's replacement, on a task whose words can be predicted."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DistilBertConfig,
    DistilBertForMaskedLM,
)

from compress.augment.cbert import make_cbert
from compress.augment.example import Example
from compress.augment.masked_lm import MaskedLM, Query
from compress.augment.pieces import Edit, Kind, apply_edits, encode_examples, replaceable_words
from compress.augment.replacement import make_replacement
from compress.augment.train_masked_lm import condition_on_labels, mask_tokens, train_masked_lm, try_masked_lm
from compress.data.corpus import UNLABELLED, Corpus, Split
from compress.recipe.sections import CbertOptions, MaskedLmOptions, ReplacementOptions, TeacherOptions
from compress.runtime.encode import Encoded, TextEncoder
from compress.runtime.errors import UserError
from tests.tiny_task import BAD, GOOD, NOUNS, tiny_teacher

LONG = ReplacementOptions(epochs=6, learning_rate=3e-3, batch_size=8)
TEXT = "the film was good and the game too"


def make_corpus(*, labelled: int = 320) -> Corpus:
    """320 sentences like TEXT, where the label decides the adjective, and 60 for dev."""

    def split(rows: int, seed: int) -> Split:
        rng = random.Random(seed)
        labels = [row % 2 for row in range(rows)]
        texts = [
            f"the {rng.choice(NOUNS)} was {rng.choice(GOOD if label else BAD)} and the {rng.choice(NOUNS)} too"
            for label in labels
        ]
        return Split(texts, None, labels, None)

    train, unlabelled = split(320, 0), None
    if labelled < 320:
        unlabelled = Split(train.texts[labelled:], None, [UNLABELLED] * (320 - labelled), None)
        train = Split(train.texts[:labelled], None, train.labels[:labelled], None)
    return Corpus(["negative", "positive"], {"train": train, "dev": split(60, 1)}, unlabelled)


def make_lm(source: Path, scratch: Path, options: MaskedLmOptions, corpus: Corpus | None = None) -> MaskedLM:
    return train_masked_lm(TeacherOptions(model=str(source)), corpus or make_corpus(), options, scratch, max_length=32)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny encoder, with word embeddings of a trained encoder's norm: the training does not change them."""
    directory = tiny_teacher(tmp_path_factory.mktemp("bert"))
    model = AutoModelForSequenceClassification.from_pretrained(directory)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(12)
    model.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="module")
def lm(teacher: Path, scratch: Path) -> MaskedLM:
    """A model for replacement, its head trained on the tiny task."""
    return make_lm(teacher, scratch, LONG)


@pytest.fixture(scope="module")
def conditional(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> MaskedLM:
    """A label-conditional model of the tiny task."""
    options = CbertOptions(epochs=12, learning_rate=3e-3, batch_size=8)
    scratch = tmp_path_factory.mktemp("conditional")
    lm = make_lm(teacher, scratch / "lm", options)
    return condition_on_labels(lm, make_corpus(), options, scratch / "labels", seed=0)


def query(lm: MaskedLM, text: str, masked: str) -> Query:
    """A query that masks the first token `masked`."""
    (encoding,) = encode_examples(lm.encoder.tokenizer, [Example(text, None, 0)])
    ids = np.array(encoding.ids)
    position = encoding.tokens.index(masked)
    ids[position] = lm.mask_token_id
    return Query(Encoded(ids, ids * 0, ids * 0), [position], [Kind.CONTENT], [None])


def probability(lm: MaskedLM, words: list[str]) -> float:
    """The probability of `words` together at the position of the noun."""
    ((logits, ids),) = lm.candidates([query(lm, TEXT, "film")], 1000)
    likely = logits.softmax(dim=1)[0]
    return sum(float(p) for p, token in zip(likely, ids[0], strict=True) if lm.vocabulary.text(int(token)) in words)


def test_a_new_head_learns_what_stands_where(teacher: Path, lm: MaskedLM) -> None:
    tokenizer = AutoTokenizer.from_pretrained(teacher)
    untrained = AutoModelForMaskedLM.from_pretrained(teacher).eval()
    before = MaskedLM(untrained, tokenizer, TextEncoder(teacher / "tokenizer.json", 32))
    assert probability(before, NOUNS) < 0.3
    assert probability(lm, NOUNS) > 0.8


def test_texts_without_labels_teach_it_too(teacher: Path, tmp_path: Path) -> None:
    taught = make_lm(teacher, tmp_path / "a", LONG, make_corpus(labelled=8))
    assert probability(taught, NOUNS) > 0.8
    corpus = make_corpus(labelled=8)
    untaught = make_lm(teacher, tmp_path / "b", LONG, Corpus(corpus.labels, corpus.splits))
    assert probability(untaught, NOUNS) < 0.6


def test_which_texts_are_labelled_changes_nothing(teacher: Path, tmp_path: Path) -> None:
    short = ReplacementOptions(epochs=1, learning_rate=3e-3, batch_size=8)
    whole, cut = make_corpus(), make_corpus(labelled=8)
    train, more = cut.splits["train"], cut.unlabelled
    assert more is not None
    mixed = Corpus(cut.labels, {**cut.splits, "train": Split(more.texts[:8], None, train.labels, None)}, None)
    rest = Split(more.texts[8:] + train.texts, None, more.labels, None)
    models = [
        make_lm(teacher, tmp_path / str(i), short, corpus)
        for i, corpus in enumerate((whole, cut, replace(mixed, unlabelled=rest)))
    ]
    for weights in zip(*(lm.model.parameters() for lm in models), strict=True):
        assert torch.equal(weights[0], weights[1])
        assert torch.equal(weights[0], weights[2])


def test_a_saved_model_is_the_same_model(lm: MaskedLM, conditional: MaskedLM, tmp_path: Path) -> None:
    for i, model in enumerate((lm, conditional)):
        model.save(tmp_path / str(i))
        again = MaskedLM.load(tmp_path / str(i))
        assert again.num_labels == model.num_labels
        for a, b in zip(model.model.parameters(), again.model.parameters(), strict=True):
            assert torch.equal(a, b)
        (logits, ids), (others, same) = (m.candidates([query(m, TEXT, "film")], 5)[0] for m in (model, again))
        torch.testing.assert_close(
            logits, others
        )  # weights mapped from a file are aligned differently: a difference of an ulp
        assert torch.equal(ids, same)


def test_a_finished_training_is_not_repeated(teacher: Path, scratch: Path, lm: MaskedLM) -> None:
    again = make_lm(teacher, scratch, LONG)
    for a, b in zip(lm.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_killed_training_goes_on_with_the_masks_it_would_have_drawn(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, calls = ReplacementOptions(epochs=3, learning_rate=3e-3), 0
    whole = make_lm(teacher, tmp_path / "whole", options)

    def mask_or_die(*arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
        nonlocal calls
        calls += 1
        if calls == 16:  # an epoch has ten steps and one dev batch, so this is in the middle of the second
            raise KeyboardInterrupt
        return mask_tokens(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("compress.augment.train_masked_lm.mask_tokens", mask_or_die)
        with pytest.raises(KeyboardInterrupt):
            make_lm(teacher, tmp_path / "killed", options)
    resumed = make_lm(teacher, tmp_path / "killed", options)
    for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_checkpoint_with_a_head_is_taken_as_it_is(lm: MaskedLM, tmp_path: Path) -> None:
    lm.save(tmp_path / "lm")
    again = make_lm(tmp_path / "lm", tmp_path / "scratch", ReplacementOptions())
    for a, b in zip(lm.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not (tmp_path / "scratch" / "checkpoint").exists()


def test_samples_follow_the_label_and_not_the_text(conditional: MaskedLM) -> None:
    """The text's own adjective has the other label, so samples that keep it are not counted."""
    augment = make_cbert(conditional, temperature=0.5)
    for label, own, other in ((0, BAD, GOOD), (1, GOOD, BAD)):
        example = Example(TEXT.replace("good", other[0]), None, label)
        adjectives = [made.text.split()[3] for made in augment([example] * 600, random.Random(0))]
        found = [sum(word in words for word in adjectives if word != other[0]) for words in (own, other)]
        assert found[0] > 20
        assert found[0] > 3 * found[1]


def test_a_share_of_the_words_is_sampled_anew(conditional: MaskedLM) -> None:
    stream = [Example(TEXT, None, 1)] * 50
    for mask, most in ((0.01, 1), (0.3, 3)):
        made = list(make_cbert(conditional, mask=mask)(stream, random.Random(0)))
        changed = [sum(a != b for a, b in zip(TEXT.split(), m.text.split(), strict=True)) for m in made]
        assert 0 < max(changed) <= most
    likely = make_cbert(conditional, mask=0.3, top_k=1)
    assert len({example.text for example in likely(stream, random.Random(0))}) < 50


def test_an_unlabelled_example_cannot_be_conditioned_on(conditional: MaskedLM) -> None:
    with pytest.raises(ValueError, match="label -1"):
        next(make_cbert(conditional)([Example(TEXT, None, -1)], random.Random(0)))


def test_words_give_way_to_likely_ones_and_stop_words_stay(lm: MaskedLM) -> None:
    augment = make_replacement(lm, probability=1.0, candidates=5)
    for example in augment([Example("The film was Good, and the 3 games too!", None, 0)] * 40, random.Random(0)):
        the, noun, was, adjective, *rest = example.text.split()
        assert (the, was) == ("The", "was")
        assert noun != "film"
        assert adjective != "Good,"
        assert adjective[0].isupper()
        assert adjective.endswith(",")
        assert rest[:3] == ["and", "the", "3"]
        assert rest[-1] == "too!"


def test_the_chance_of_a_replacement_is_the_one_asked_for(lm: MaskedLM) -> None:
    augment = make_replacement(lm, probability=0.25)
    made = [m.text.split()[1] for m in augment([Example(TEXT, None, 0)] * 400, random.Random(0))]
    assert 0.18 < sum(word != "film" for word in made) / 400 < 0.32


def test_a_word_of_several_pieces_gets_its_nearest_neighbours(lm: MaskedLM) -> None:
    word = "goodfilm"  # as pieces: good, ##…
    (encoding,) = encode_examples(lm.encoder.tokenizer, [Example(word, None, 0)])
    assert len(encoding.ids) > 3
    made = {
        m.text
        for m in make_replacement(lm, probability=1.0, candidates=3)([Example(word, None, 0)] * 50, random.Random(0))
    }
    table = torch.nn.functional.normalize(lm.model.get_input_embeddings().weight.detach(), dim=1)
    mean = lm.model.get_input_embeddings().weight.detach()[encoding.ids[1:-1]].mean(dim=0)
    order = (table @ mean).argsort(descending=True).tolist()
    nearest = [lm.vocabulary.text(i) for i in order if lm.vocabulary.kinds[Kind.CONTENT, i]][:3]
    assert made <= {word, *nearest}
    assert len(made & set(nearest)) == 3


def test_edits_leave_the_rest_of_a_pair_as_it_was(lm: MaskedLM) -> None:
    example = Example("The  FILM\twas good…", "don't like the meal 😀 at all", 0)
    (encoding,) = encode_examples(lm.encoder.tokenizer, [example])
    words = replaceable_words(example, encoding, lm.vocabulary)
    assert {"The", "FILM", "was", "good", "the", "meal"} <= {word.text for word in words}
    assert not {"don", "t"} & {word.text for word in words}
    edits = [Edit(w.positions[0], "song", w.positions[-1]) for w in words if w.text in ("FILM", "meal")]
    assert apply_edits(example, encoding, edits) == Example("The  SONG\twas good…", "don't like the song 😀 at all", -1)


def test_masking_is_that_of_bert() -> None:
    ids = torch.full((200, 100), 7)
    ids[:, 0] = 2
    new, chosen = mask_tokens(ids, torch.tensor([0, 2]), 3, 1000, torch.Generator().manual_seed(0))
    again, _ = mask_tokens(ids, torch.tensor([0, 2]), 3, 1000, torch.Generator().manual_seed(0))
    assert torch.equal(new, again)
    assert not chosen[:, 0].any()
    assert torch.equal(new[~chosen], ids[~chosen])
    shares = [chosen[:, 1:], (new[chosen] == 3), (new[chosen] == 7), (new[chosen] != 3) & (new[chosen] != 7)]
    assert [float(share.float().mean()) for share in shares] == pytest.approx([0.15, 0.8, 0.1, 0.1], abs=0.02)


def test_encoders_that_do_not_suit_are_refused_in_one_line(teacher: Path, tmp_path: Path) -> None:
    vocabulary = AutoTokenizer.from_pretrained(teacher)
    config = DistilBertConfig(vocab_size=len(vocabulary), dim=32, n_heads=2, n_layers=1, hidden_dim=32)
    DistilBertForMaskedLM(config).save_pretrained(tmp_path / "distilbert")
    vocabulary.save_pretrained(tmp_path / "distilbert")
    with pytest.raises(UserError, match="cbert needs an encoder with token types"):
        try_masked_lm(
            TeacherOptions(model=str(tmp_path / "distilbert")), make_corpus().splits["dev"], 32, conditioned=True
        )
    lm = make_lm(tmp_path / "distilbert", tmp_path / "s", ReplacementOptions())
    assert lm.candidates([], 3) == []
    with pytest.raises(UserError, match="cbert needs an encoder with token types"):
        condition_on_labels(lm, make_corpus(), CbertOptions(), tmp_path / "s", seed=0)
    try_masked_lm(TeacherOptions(model=str(teacher)), make_corpus().splits["dev"], 32, conditioned=True)
    with pytest.raises(UserError, match="cannot be loaded as a masked language model"):
        make_lm(tmp_path / "nothing", tmp_path / "s", ReplacementOptions())
