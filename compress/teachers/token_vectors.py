"""What a fine-tuned teacher makes of each token on its own: the first word embeddings of a student.

The word embeddings of a BERT are nearly the same for every task. What a token means for this task is in the states of its
layers: with a teacher of sentiment, "flawless" and "superb" are close there, and far from "awful". A student that starts
from these states knows that of all tokens, also of those that its texts have once or never. Sentence embeddings without
context are made in the same way (model2vec, Tulkens and van Dongen 2024).
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from compress.runtime.encode import TextEncoder
from compress.training.accelerator import make_accelerator

TOKENS_IN_BATCH = 1024


def token_vectors(model: PreTrainedModel, encoder: TextEncoder) -> Tensor:
    """For each token of the vocabulary its word embedding, and its states in two layers where it is a text of its own.

    Each of the three parts has zero mean and unit variance in every dimension.

    :param model: a teacher of J layers and width d; its layers ⌈2J/3⌉ and J are read.
    :param encoder: its tokenizer, which puts the special tokens around the token.
    :returns: (V, 3·d) in half precision, on the CPU.
    """
    before, after = _frame(encoder)
    embeddings = model.get_input_embeddings().weight.detach()
    layers = model.config.num_hidden_layers
    read = (-(-2 * layers // 3), layers)
    accelerator = make_accelerator()
    model.eval()
    states = []
    with torch.inference_mode(), accelerator.autocast():
        for tokens in torch.arange(len(embeddings), device=embeddings.device).split(TOKENS_IN_BATCH):
            around = [torch.tensor(ids, device=tokens.device).expand(len(tokens), -1) for ids in (before, after)]
            ids = torch.cat([around[0], tokens[:, None], around[1]], dim=1).long()
            out = model(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True)
            states.append(torch.cat([out.hidden_states[layer][:, len(before)] for layer in read], dim=1).half().cpu())
    return torch.cat([_standardised(embeddings.cpu()), _standardised(torch.cat(states))], dim=1)


def _frame(encoder: TextEncoder) -> tuple[list[int], list[int]]:
    """The special tokens before and after a single text."""
    empty, short = (encoded.input_ids.tolist() for encoded in encoder.encode(["", "a"]))
    same = [ours == other for ours, other in zip(empty, short, strict=False)]
    before = same.index(False) if False in same else len(same)
    return empty[:before], empty[before:]


def _standardised(values: Tensor) -> Tensor:
    """(V, n) with zero mean and unit variance in each column, in half precision."""
    values = values.float()
    return ((values - values.mean(dim=0)) / values.std(dim=0).clamp(min=1e-6)).half()
