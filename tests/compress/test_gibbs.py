"""The Gibbs sampler against distributions that can be computed exactly."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tokenizers import BertWordPieceTokenizer
from torch import Tensor, nn
from transformers import BertTokenizerFast

from compress.augment.example import Example
from compress.augment.gibbs import gibbs_samples, make_gibbs
from compress.augment.masked_lm import MaskedLM
from compress.recipe.sections import GibbsOptions
from compress.runtime.encode import TextEncoder

WORDS = ["ant", "bee", "cat"]
# (p(first | second), p(second | first)); each row is one given word.
JOINT = torch.tensor([[0.30, 0.02, 0.08], [0.05, 0.20, 0.05], [0.10, 0.15, 0.05]])
CONSISTENT = ((JOINT / JOINT.sum(dim=0)).T, JOINT / JOINT.sum(dim=1, keepdim=True))
INCONSISTENT = (
    torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.6, 0.2], [0.3, 0.3, 0.4]]),
    torch.tensor([[0.1, 0.1, 0.8], [0.5, 0.3, 0.2], [0.2, 0.6, 0.2]]),
)


class TwoTokens(nn.Module):
    """A masked language model for texts of two words, with its conditionals given as tables."""

    def __init__(self, conditionals: tuple[Tensor, Tensor], ids: list[int], vocabulary: int) -> None:
        super().__init__()
        self.config = SimpleNamespace(type_vocab_size=0)
        self.device = torch.device("cpu")
        self.table = torch.full((2, vocabulary, vocabulary), -300.0)  # side, other word, word
        for side, table in enumerate(conditionals):
            self.table[side][torch.tensor(ids)[:, None], torch.tensor(ids)] = table.log()

    def base_model(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        hidden = torch.zeros(*input_ids.shape, self.table.shape[1])
        last = input_ids.shape[1] - 2  # [CLS] a b [SEP], or [CLS] a [SEP] b [SEP]
        hidden[:, 1], hidden[:, last] = self.table[0][input_ids[:, last]], self.table[1][input_ids[:, 1]]
        return SimpleNamespace(last_hidden_state=hidden)

    def cls(self, hidden: Tensor) -> Tensor:
        return hidden

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.cls(self.base_model(input_ids, attention_mask).last_hidden_state)


def toy(folder: Path, conditionals: tuple[Tensor, Tensor]) -> MaskedLM:
    wordpiece = BertWordPieceTokenizer(lowercase=True)
    wordpiece.train_from_iterator(WORDS * 5, vocab_size=60, show_progress=False)
    wordpiece.save_model(str(folder))
    tokenizer = BertTokenizerFast.from_pretrained(folder)
    tokenizer.save_pretrained(folder)
    ids = tokenizer.convert_tokens_to_ids(WORDS)
    model: Any = TwoTokens(conditionals, ids, len(tokenizer))
    return MaskedLM(model, tokenizer, TextEncoder(folder / "tokenizer.json", 8))


def frequencies(lm: MaskedLM, options: GibbsOptions, count: int = 2000) -> Tensor:
    """Frequencies (3, 3) of the nine texts, after chains that all start from the same text."""
    made = gibbs_samples(lm, [Example("cat ant", None, 0)] * count, options, random.Random(0))
    found = Counter(sample.example.text for sample in made)
    assert sum(found[f"{a} {b}"] for a in WORDS for b in WORDS) == count
    return torch.tensor([[found[f"{a} {b}"] / count for b in WORDS] for a in WORDS])


def test_the_stationary_distribution_is_the_exact_one(tmp_path: Path) -> None:
    found = frequencies(toy(tmp_path, CONSISTENT), GibbsOptions(sweeps=8, top_k=0))
    assert (found - JOINT).abs().max() < 0.035


@pytest.mark.parametrize(("temperature", "without"), [(1.0, 0.05), (2.0, 0.03)])
def test_metropolis_acceptance_leads_to_the_pseudo_likelihood(
    tmp_path: Path, temperature: float, without: float
) -> None:
    """The two conditionals belong to no joint distribution. The target is their product, to the power 1 / temperature."""
    lm = toy(tmp_path, INCONSISTENT)
    first, second = INCONSISTENT
    exact = (first.T * second) ** (1 / temperature)
    exact = exact / exact.sum()
    options = GibbsOptions(sweeps=5, top_k=0, metropolis=True, temperature=temperature)
    found = frequencies(lm, options, 1500)
    assert (found - exact).abs().max() < 0.03
    plain = frequencies(lm, options.model_copy(update={"metropolis": False}), 1500)
    assert (plain - exact).abs().max() > without  # only the correction leads there


def test_a_short_chain_stays_near_its_start(tmp_path: Path) -> None:
    lm = toy(tmp_path, CONSISTENT)
    made = list(gibbs_samples(lm, [Example("Cat, ant!", None, 0)] * 200, GibbsOptions(sweeps=0.5), random.Random(0)))
    words = [sample.example.text.rstrip("!").split(", ") for sample in made]
    assert all(first == "Cat" or second == "ant" for first, second in words)  # one of the two words is visited
    assert {"Ant", "Bee"} < {first for first, _ in words}


def test_the_log_likelihood_is_that_of_the_words_drawn(tmp_path: Path) -> None:
    lm = toy(tmp_path, CONSISTENT)
    for sample in gibbs_samples(lm, [Example("cat ant", None, 0)] * 50, GibbsOptions(sweeps=0.5), random.Random(0)):
        first, second = (WORDS.index(word) for word in sample.example.text.split())
        # Either the second word was drawn given the first one, or the other way round.
        possible = [float(CONSISTENT[0][second][first].log()), float(CONSISTENT[1][first][second].log())]
        assert min(abs(sample.log_likelihood - value) for value in possible) < 1e-4
    (odd,) = gibbs_samples(lm, [Example("12 !", None, 0)], GibbsOptions(), random.Random(0))
    assert (odd.example.text, odd.log_likelihood) == ("12 !", 0.0)


def test_temperature_and_top_k_narrow_the_choice(tmp_path: Path) -> None:
    lm = toy(tmp_path, CONSISTENT)
    one = frequencies(lm, GibbsOptions(sweeps=4, top_k=1), 300)
    assert one[0, 0] + one[1, 1] == 1  # the most probable other word is the same word
    cold = frequencies(lm, GibbsOptions(sweeps=8, top_k=0, temperature=0.3), 1000)
    hot = frequencies(lm, GibbsOptions(sweeps=8, top_k=0, temperature=5.0), 1000)
    assert hot.max() < JOINT.max() < cold.max()


def test_the_words_of_a_block_are_drawn_without_each_other(tmp_path: Path) -> None:
    lm = toy(tmp_path, CONSISTENT)
    stream = [Example("cat , , ant", None, 0)] * 50
    alone, together = (
        {round(sample.log_likelihood, 3) for sample in gibbs_samples(lm, stream, options, random.Random(0))}
        for options in (GibbsOptions(sweeps=1, top_k=0, block=size) for size in (1, 2))
    )
    assert len(alone) > 5
    assert len(together) == 1  # next to a mask, the toy gives all words the same probability


def test_pairs_stay_pairs_and_a_seed_gives_the_same_samples(tmp_path: Path) -> None:
    lm = toy(tmp_path, CONSISTENT)
    stream = [Example("cat", "ant", 0)] * 40
    made = [list(make_gibbs(lm, GibbsOptions(block=2))(stream, random.Random(3))) for _ in range(2)]
    assert made[0] == made[1]
    assert all(example.text in WORDS and example.text_b in WORDS and example.label == -1 for example in made[0])
