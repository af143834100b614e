"""What a fine-tuned teacher makes of each token on its own: the first word embeddings of a student.

The word embeddings of a BERT are nearly the same for every task. What a token means for this task is in the states of its
layers: with a teacher of sentiment, "flawless" and "superb" are close there, and far from "awful". A student that starts
from these states knows that of all tokens, also of those that its texts have once or never. Sentence embeddings without
context are made in the same way (model2vec, Tulkens and van Dongen 2024).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.data.batches import Batch, EncodedSplit, make_loader
from compress.data.single_tokens import MOST_TOKENS, single_tokens, special_tokens
from compress.runtime.encode import TextEncoder
from compress.training.accelerator import make_accelerator
from compress.training.evaluation import model_inputs, predict

TOKENS_IN_BATCH = 512


def token_vectors(model: PreTrainedModel, encoder: TextEncoder, texts: EncodedSplit) -> Tensor:
    """For each token of the vocabulary its word embedding, and its states in two layers where it is a text of its own.

    Each of the three parts has zero mean and unit variance in every dimension. The states of a token that was not asked
    about are zero.

    :param model: a teacher of J layers and width d; its layers ⌈2J/3⌉ and J are read.
    :param encoder: its tokenizer, which puts the special tokens around the token.
    :param texts: what the student learns from: of a vocabulary of more than `MOST_TOKENS`, only their tokens are asked about.
    :returns: (V, 3·d) in half precision, on the CPU.
    """
    layers = model.config.num_hidden_layers
    place = len(special_tokens(encoder)[0])

    def forward(_: nn.Module, batch: Batch) -> Tensor:
        states = model(**model_inputs(model, batch), output_hidden_states=True).hidden_states
        return torch.cat([states[layer][:, place] for layer in (-(-2 * layers // 3), layers)], dim=1)

    accelerator = make_accelerator()
    model.to(accelerator.device)
    embeddings = model.get_input_embeddings().weight.detach().cpu()
    ids = np.arange(len(embeddings))
    if len(ids) > MOST_TOKENS:
        ids = np.unique(np.concatenate([text.input_ids for text in texts.encoded]))
    loader = make_loader(single_tokens(encoder, ids), TOKENS_IN_BATCH, shuffle=False)
    found = predict(model, loader, forward, accelerator, "tokens through the teacher")
    states = torch.zeros(len(embeddings), found.shape[1], dtype=torch.half)
    states[torch.from_numpy(ids)] = _standardised(found)
    return torch.cat([_standardised(embeddings), states], dim=1)


def _standardised(values: Tensor) -> Tensor:
    """(V, n) with zero mean and unit variance in each column, in half precision."""
    values = values.float()
    return ((values - values.mean(dim=0)) / values.std(dim=0).clamp(min=1e-6)).half()
