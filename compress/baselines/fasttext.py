"""Training of a linear classifier as fastText has it: a softmax on the mean of learnt embeddings of words and pairs of words.

Joulin et al., Bag of Tricks for Efficient Text Classification (EACL 2017, arXiv 1607.01759), §2: the hashing trick for n-grams, bigrams,
ten hidden units, a learning rate that falls linearly to 0. The package itself has no wheel for Python 3.13, so this is written anew.
It differs in the optimiser: Adam on small batches in the place of SGD text by text, which takes minutes in PyTorch.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from compress.baselines.bags import joined, shuffled_batches
from compress.baselines.fasttext_model import FastTextModel, IdArray, hashed
from compress.data.corpus import Corpus, Split

DIMENSIONS = 10
EPOCHS = 5
BATCH = 32
LEAST_STEPS, MOST_STEPS = 200, 30_000  # few texts get more epochs, very many get fewer
LEARNING_RATES = (0.003, 0.01, 0.03)  # dev decides, as in the paper


def fit_fasttext(corpus: Corpus, seed: int) -> FastTextModel:
    """Train on the labelled texts with each of `LEARNING_RATES`; the best on dev, of equals the first."""
    train, dev = corpus.splits["train"], corpus.splits["dev"]
    of_texts = hashed(train.texts, train.texts_b)
    known = np.unique(np.concatenate(of_texts))
    rows = [np.searchsorted(known, hashes) for hashes in of_texts]
    labels = np.asarray(train.labels)
    models = [_train(known, rows, labels, len(corpus.labels), rate, seed) for rate in LEARNING_RATES]
    return max(models, key=lambda model: _accuracy(model, dev))


def _train(known: IdArray, rows: list[IdArray], labels: IdArray, classes: int, rate: float, seed: int) -> FastTextModel:
    """
    :param known: the hashes that have an embedding, (F,).
    :param rows: of each text, the places of its hashes in `known`.
    """
    bag = nn.EmbeddingBag(len(known), DIMENSIONS, mode="mean", sparse=True)
    weight = nn.Parameter(torch.zeros(classes, DIMENSIONS))
    start = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        bag.weight.uniform_(-1 / DIMENSIONS, 1 / DIMENSIONS, generator=start)
    optimizers = [torch.optim.SparseAdam(bag.parameters(), lr=rate), torch.optim.Adam([weight], lr=rate)]
    each = -(-len(rows) // BATCH)
    epochs = max(1, min(max(EPOCHS, LEAST_STEPS // each), MOST_STEPS // each))
    steps = epochs * each
    for step, batch in enumerate(shuffled_batches(len(rows), BATCH, epochs, seed)):
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
            optimizer.zero_grad()
        mean = bag(*joined([rows[i] for i in batch]))
        F.cross_entropy(mean @ weight.T, torch.from_numpy(labels[batch])).backward()
        for optimizer in optimizers:
            optimizer.step()
    return FastTextModel(known, bag.weight.detach().numpy(), weight.detach().numpy())


def _accuracy(model: FastTextModel, split: Split) -> float:
    answers = model.logits(model.rows(split.texts, split.texts_b)).argmax(axis=1)
    return float((answers == np.asarray(split.labels)).mean())
