"""Gibbs sampling from a masked language model (Wang & Cho 2019, arXiv 1902.04094), started from a text.

One word after the other is masked and sampled from the model's distribution given all other words. After few visits the
text is still near the start; after many visits the start is forgotten. The conditionals of a masked model may belong to
no joint distribution. Without correction, the sampler itself then defines the chain's stationary distribution. With
Metropolis-Hastings acceptance (Goyal et al. 2021, arXiv 2106.02736) it is π(x) ∝ exp(Σ_i log p(x_i | x_−i) / T), the
pseudo-likelihood of the text at temperature T.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from tokenizers import Encoding

from compress.augment.example import Augmentation, Example, chunks
from compress.augment.masked_lm import MaskedLM, Query
from compress.augment.pieces import Edit, Kind, apply_edits, encode_examples, replaceable_words
from compress.recipe.sections import GenerationOptions
from compress.runtime.encode import Encoded, IntArray

CHUNK = 256  # texts whose chains run in parallel
APART = 3  # least distance, in tokens, of two positions that are sampled in one pass


@dataclass(frozen=True)
class Sample:
    """A new example and its log-likelihood.

    The log-likelihood is the mean of log p(token | the rest), in nats, over all visits, each taken at the time of the
    visit. It is 0 for a text without replaceable words.
    """

    example: Example
    log_likelihood: float


def make_gibbs(lm: MaskedLM, options: GenerationOptions) -> Augmentation:
    """The sampler as an augmentation: one sample for each example."""

    def gibbs(stream: Iterable[Example], rng: random.Random) -> Iterator[Example]:
        return (sample.example for sample in gibbs_samples(lm, stream, options, rng))

    return gibbs


def gibbs_samples(
    lm: MaskedLM, stream: Iterable[Example], options: GenerationOptions, rng: random.Random
) -> Iterator[Sample]:
    """One sample for each example of the stream, in order; the chain starts from the example's text.

    The tokens of replaceable words are visited one by one. The first piece of a word is replaced by a whole-word entry,
    and each further piece by a continuation. With `options.block` above one, that many tokens of a text, at least
    `APART` positions apart, are masked together and sampled independently. They then cannot depend on each other, as in
    the model's own training with several masks a text. The result only approximates the chain that samples one by one.
    """
    generator = torch.Generator().manual_seed(rng.getrandbits(63))
    for chunk in chunks(stream, CHUNK):
        encodings = encode_examples(lm.encoder.tokenizer, chunk)
        chains = [
            _start(lm, example, encoding, options.sweeps, rng)
            for example, encoding in zip(chunk, encodings, strict=True)
        ]
        while moving := [chain for chain in chains if chain.visits]:
            if options.metropolis:
                _metropolis_pass(lm, moving, options, generator)
            else:
                _pass(lm, moving, options, generator)
        yield from (chain.sample(lm) for chain in chains)


@dataclass
class _Chain:
    """The state of the chain of one text."""

    example: Example
    encoding: Encoding
    ids: IntArray  # (L,)
    kinds: dict[int, Kind]  # position that may change → kind of its token
    visits: list[int]  # positions to visit, in order
    log_probabilities: list[float] = field(default_factory=list)  # of the token at the position, after each visit
    pseudo_likelihood: float | None = None  # Σ_i log p(x_i | x_−i) of `ids`; None until it is computed

    def query(self, lm: MaskedLM, positions: list[int], ids: IntArray) -> Query:
        masked = ids.copy()
        masked[positions] = lm.mask_token_id
        types = np.array(self.encoding.type_ids)
        kinds = [self.kinds[position] for position in positions]
        return Query(Encoded(masked, types, types), positions, kinds, [None] * len(positions))

    def next_block(self, size: int) -> list[int]:
        """Remove the next positions from `visits` that are at least `APART` from each other, and return them."""
        block: list[int] = []
        for position in self.visits:
            if all(abs(position - other) >= APART for other in block):
                block.append(position)
            if len(block) == size:
                break
        for position in block:
            self.visits.remove(position)
        return block

    def sample(self, lm: MaskedLM) -> Sample:
        changed = [position for position in self.kinds if self.ids[position] != self.encoding.ids[position]]
        edits = [Edit(position, lm.vocabulary.text(int(self.ids[position]))) for position in changed]
        values = self.log_probabilities
        mean = sum(values) / len(values) if values else 0.0
        return Sample(apply_edits(self.example, self.encoding, edits), mean)


def _start(lm: MaskedLM, example: Example, encoding: Encoding, sweeps: float, rng: random.Random) -> _Chain:
    words = replaceable_words(example, encoding, lm.vocabulary)
    kinds = {position: Kind.PART if i else Kind.WORD for word in words for i, position in enumerate(word.positions)}
    count = max(1, round(sweeps * len(kinds))) if kinds else 0
    visits: list[int] = []
    while len(visits) < count:
        visits += rng.sample(sorted(kinds), len(kinds))  # one sweep
    return _Chain(example, encoding, np.array(encoding.ids), kinds, visits[:count])


def _pass(lm: MaskedLM, chains: Sequence[_Chain], options: GenerationOptions, generator: torch.Generator) -> None:
    """Sample the next block of every chain."""
    blocks = [chain.next_block(options.block) for chain in chains]
    queries = [chain.query(lm, block, chain.ids) for chain, block in zip(chains, blocks, strict=True)]
    log_p = torch.cat(lm.log_probabilities(queries))  # (M, V)
    likely, ids = log_p.topk(min(options.top_k or log_p.shape[1], log_p.shape[1]))
    picks = torch.multinomial((likely / options.temperature).softmax(dim=1), 1, generator=generator)
    drawn, values = iter(ids.gather(1, picks)[:, 0].tolist()), iter(likely.gather(1, picks)[:, 0].tolist())
    for chain, block in zip(chains, blocks, strict=True):
        for position in block:
            chain.ids[position] = next(drawn)
            chain.log_probabilities.append(next(values))


def _metropolis_pass(
    lm: MaskedLM, chains: Sequence[_Chain], options: GenerationOptions, generator: torch.Generator
) -> None:
    """Propose the next token of every chain; accept it with min(1, π(x') q(x_i) / (π(x) q(x'_i))) (Algorithm 1)."""
    unknown = [chain for chain in chains if chain.pseudo_likelihood is None]
    for chain, value in zip(unknown, _pseudo_likelihoods(lm, unknown, [c.ids for c in unknown]), strict=True):
        chain.pseudo_likelihood = value
    positions = [chain.next_block(1)[0] for chain in chains]
    queries = [chain.query(lm, [position], chain.ids) for chain, position in zip(chains, positions, strict=True)]
    conditionals = [log_p[0] for log_p in lm.log_probabilities(queries)]  # (V,) each
    proposals = [(log_p / options.temperature).log_softmax(dim=0) for log_p in conditionals]
    candidates = []
    for chain, position, proposal in zip(chains, positions, proposals, strict=True):
        ids = chain.ids.copy()
        ids[position] = int(torch.multinomial(proposal.exp(), 1, generator=generator))
        candidates.append(ids)
    values = _pseudo_likelihoods(lm, chains, candidates)
    for chain, position, log_p, proposal, ids, value in zip(
        chains, positions, conditionals, proposals, candidates, values, strict=True
    ):
        old, new = int(chain.ids[position]), int(ids[position])
        assert chain.pseudo_likelihood is not None, "computed above"
        ratio = (value - chain.pseudo_likelihood) / options.temperature + float(proposal[old] - proposal[new])
        if math.log(max(float(torch.rand((), generator=generator)), 1e-300)) < ratio:
            chain.ids, chain.pseudo_likelihood = ids, value
        chain.log_probabilities.append(float(log_p[chain.ids[position]]))


def _pseudo_likelihoods(lm: MaskedLM, chains: Sequence[_Chain], states: Sequence[IntArray]) -> list[float]:
    """Σ_i log p(x_i | x_−i) over the positions that may change, for one state of each chain."""
    queries = [
        chain.query(lm, [position], ids) for chain, ids in zip(chains, states, strict=True) for position in chain.kinds
    ]
    words = [int(ids[position]) for chain, ids in zip(chains, states, strict=True) for position in chain.kinds]
    found = iter(lm.log_probabilities_of(queries, words))
    return [sum(next(found) for _ in chain.kinds) for chain in chains]
