"""Static token embeddings distilled from an encoder, and a linear head on their mean: a classifier without a network.

As model2vec makes them (Tulkens & van Dongen, 2024, https://minish.ai/packages/model2vec/introduction): each token of the vocabulary
goes through the encoder alone, a PCA makes the vectors smaller, and frequent tokens get a small weight (SIF: Arora et al., ICLR 2017, §3).
model2vec estimates the frequencies by Zipf's law; here they are those of the training texts.
"""

from __future__ import annotations

import numpy as np
import torch
from transformers import PreTrainedModel

from compress.baselines.static_model import FloatArray, StaticModel, features
from compress.data.batches import EncodedSplit, encode_split, make_loader
from compress.data.corpus import Corpus
from compress.objectives.expertise import mean_state
from compress.runtime.encode import Encoded, TextEncoder
from compress.runtime.errors import UserError
from compress.training.accelerator import make_accelerator
from compress.training.evaluation import model_inputs, predict
from compress.training.logistic import Examples, fit_logistic

DIMENSIONS = 256
SIF = 1e-3  # a token of this frequency has half the weight of a rare one
STRENGTHS = (0.003, 0.03, 0.3, 3.0)  # C of the logistic regression; dev decides
MAX_ITERATIONS = 200
MOST_TOKENS = 130_000  # a larger vocabulary takes an encoder too long, and is mostly of other languages
TOKENS_OF_BATCH = 512


def fit_static(corpus: Corpus, encoder: PreTrainedModel, tokenizer: TextEncoder) -> StaticModel:
    """Distil the embeddings of all tokens and fit the head on the labelled texts.

    :param encoder: any classifier with an encoder, such as the teacher; its own head plays no part.
    :raises UserError: the vocabulary has more than `MOST_TOKENS` tokens.
    """
    splits = {name: encode_split(corpus.splits[name], tokenizer) for name in ("train", "dev")}
    embeddings = distil_embeddings(encoder, tokenizer)
    embeddings *= _sif_weights(splits["train"], len(embeddings))[:, None]

    def examples(split: EncodedSplit) -> Examples:
        return features(embeddings, split.encoded, pair=corpus.pair), split.labels.numpy()

    head = fit_logistic(
        examples(splits["train"]),
        {"dev": examples(splits["dev"])},
        len(corpus.labels),
        strengths=STRENGTHS,
        max_iterations=MAX_ITERATIONS,
    )
    return StaticModel(embeddings, head.weight.astype(np.float32), head.bias.astype(np.float32))


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
    empty = tokenizer.encode([""])[0].input_ids  # the special tokens around a text
    half, zeros = len(empty) // 2, np.zeros(len(empty) + 1, np.int64)
    ids = np.setdiff1d(np.arange(vocabulary), special)
    texts = [Encoded(np.insert(empty, half, token), zeros, zeros) for token in ids]
    states = _mean_states(encoder, EncodedSplit(texts, torch.zeros(len(texts), dtype=torch.long), 0))
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
