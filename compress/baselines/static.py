"""Static token embeddings distilled from an encoder and fine-tuned, with a small head on their sum: a classifier without a network.

As model2vec makes them (Tulkens & van Dongen, 2024, https://minish.ai/packages/model2vec/introduction): each token of the vocabulary
goes through the encoder alone, a PCA makes the vectors smaller, and frequent tokens get a small weight (SIF: Arora et al., ICLR 2017, §3).
Its classifier then trains the embeddings and a head with one hidden layer of 512 units, until dev stops rising; so does this one.
model2vec estimates the frequencies by Zipf's law; here they are those of the training texts.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from compress.baselines.bags import Ids, joined, shuffled_batches
from compress.baselines.static_model import FloatArray, StaticModel
from compress.data.batches import EncodedSplit, encode_split, make_loader
from compress.data.corpus import Corpus
from compress.data.single_tokens import MOST_TOKENS, single_tokens
from compress.objectives.expertise import mean_state
from compress.runtime.encode import Encoded, TextEncoder
from compress.runtime.errors import UserError
from compress.training.accelerator import make_accelerator
from compress.training.evaluation import model_inputs, predict

DIMENSIONS = 256
SIF = 1e-3  # a token of this frequency has half the weight of a rare one
HIDDEN = 512
LEARNING_RATE = 1e-3
BATCH = 32
LEAST_STEPS, MOST_STEPS = 500, 30_000
MOST_BETWEEN_CHECKS = 5_000  # steps; of fewer than so many batches, dev is asked after each epoch
PATIENCE = 3  # after so many checks on dev without a better one, training ends
TOKENS_OF_BATCH = 512


def fit_static(corpus: Corpus, encoder: PreTrainedModel, tokenizer: TextEncoder, seed: int) -> StaticModel:
    """Distil the embeddings of all tokens, and train them with their head on the labelled texts; the weights that are best on dev.

    :param encoder: any classifier with an encoder, such as the teacher; its own head plays no part.
    :raises UserError: the vocabulary has more than `MOST_TOKENS` tokens.
    """
    train, dev = (encode_split(corpus.splits[name], tokenizer) for name in ("train", "dev"))
    embeddings = distil_embeddings(encoder, tokenizer)
    embeddings *= _sif_weights(train, len(embeddings))[:, None]
    network = _Network(embeddings, corpus.pair, len(corpus.labels), torch.Generator().manual_seed(seed))
    optimizers = [
        torch.optim.SparseAdam(network.bag.parameters(), lr=LEARNING_RATE),
        torch.optim.Adam(network.head.parameters(), lr=LEARNING_RATE),
    ]
    each = -(-len(train) // BATCH)
    between, best_accuracy, waited, best = min(each, MOST_BETWEEN_CHECKS), -1.0, 0, network.model()
    batches = shuffled_batches(len(train), BATCH, -(-MOST_STEPS // each), seed)
    for step, batch in enumerate(itertools.islice(batches, MOST_STEPS), start=1):
        loss = F.cross_entropy(network([train.encoded[i] for i in batch]), train.labels[batch])
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        if step % between:
            continue
        model = network.model()
        accuracy = float((model.logits(dev.encoded, pair=corpus.pair).argmax(axis=1) == dev.labels.numpy()).mean())
        waited += 1
        if accuracy > best_accuracy:
            best, best_accuracy, waited = model, accuracy, 0
        if waited >= PATIENCE and step >= LEAST_STEPS:
            break
    return best


class _Network(nn.Module):
    """A `StaticModel` whose arrays are trained."""

    def __init__(self, embeddings: FloatArray, pair: bool, classes: int, start: torch.Generator) -> None:
        super().__init__()
        self._pair = pair
        width = embeddings.shape[1] * (4 if pair else 1)
        self.bag = nn.EmbeddingBag.from_pretrained(
            torch.from_numpy(embeddings.copy()), mode="sum", freeze=False, sparse=True
        )
        self._hidden, self._last = nn.Linear(width, HIDDEN), nn.Linear(HIDDEN, classes)
        nn.init.kaiming_uniform_(self._hidden.weight, nonlinearity="relu", generator=start)
        nn.init.xavier_uniform_(self._last.weight, generator=start)
        for layer in (self._hidden, self._last):
            nn.init.zeros_(layer.bias)
        self.head = nn.Sequential(self._hidden, nn.ReLU(), self._last)

    def forward(self, texts: Sequence[Encoded]) -> Tensor:
        """Logits (B, C)."""
        if self._pair:
            u, v = (self._units([text.input_ids[text.segments == number] for text in texts]) for number in (0, 1))
            features = torch.cat([u, v, (u - v).abs(), u * v], dim=1)
        else:
            features = self._units([text.input_ids for text in texts])
        logits: Tensor = self.head(features)
        return logits

    def _units(self, tokens: Sequence[Ids]) -> Tensor:
        sums: Tensor = self.bag(*joined(tokens))
        return F.normalize(sums, dim=1)

    def model(self) -> StaticModel:
        """A copy of the weights as they are now."""
        hidden, last = self._hidden, self._last
        arrays = (self.bag.weight, hidden.weight, hidden.bias, last.weight, last.bias)
        return StaticModel(*(array.detach().numpy().copy() for array in arrays))


def distil_embeddings(encoder: PreTrainedModel, tokenizer: TextEncoder) -> FloatArray:
    """A vector for each token (V, d), d ≤ `DIMENSIONS`: the mean of the last states of the text that is this token, after a PCA.

    :raises UserError: as `fit_static`.
    """
    vocabulary = tokenizer.tokenizer.get_vocab_size()
    if vocabulary > MOST_TOKENS:
        raise UserError(
            f"the teacher's vocabulary has {vocabulary:,} tokens, and each would go through the encoder; {MOST_TOKENS:,} are the most"
        )
    special = [i for i, token in tokenizer.tokenizer.get_added_tokens_decoder().items() if token.special]
    ids = np.setdiff1d(np.arange(vocabulary), special)
    states = _mean_states(encoder, single_tokens(tokenizer, ids))
    centred = states - states.mean(axis=0)
    _, directions = np.linalg.eigh(centred.T @ centred)  # ascending
    embeddings = np.zeros((vocabulary, min(DIMENSIONS, states.shape[1])), np.float32)
    embeddings[ids] = centred @ directions[:, ::-1][:, : embeddings.shape[1]]
    return embeddings


def _mean_states(encoder: PreTrainedModel, texts: EncodedSplit) -> FloatArray:
    """The mean of the last states over all tokens, (N, d)."""
    accelerator = make_accelerator()
    encoder.to(accelerator.device)

    def forward(model: torch.nn.Module, batch: object) -> torch.Tensor:
        out = model(**model_inputs(encoder, batch), output_hidden_states=True)  # type: ignore[arg-type]
        return mean_state(out.hidden_states[-1], batch.attention_mask.float())  # type: ignore[attr-defined]

    loader = make_loader(texts, TOKENS_OF_BATCH, shuffle=False)
    return predict(encoder, loader, forward, accelerator, "tokens through the encoder").numpy()


def _sif_weights(train: EncodedSplit, vocabulary: int) -> FloatArray:
    """A / (a + p) for each token (V,), where p is its frequency in the texts."""
    counts = np.bincount(np.concatenate([text.input_ids for text in train.encoded]), minlength=vocabulary) + 1.0
    return (SIF / (SIF + counts / counts.sum())).astype(np.float32)
