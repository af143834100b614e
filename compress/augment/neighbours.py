"""Words replaced by their neighbours in a model's own word embeddings.

Wang and Yang (2015) take word2vec's, TinyBERT GloVe's. It needs no language model: a hundred thousand texts take seconds.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from compress.augment.example import Augmentation, Example, chunks
from compress.augment.pieces import (
    Edit,
    Kind,
    Vocabulary,
    Word,
    apply_edits,
    encode_examples,
    read_vocabulary,
    replaceable_words,
)
from compress.augment.words import is_stop_word

CHUNK = 256  # examples read ahead
PROBABILITY = 0.3  # with which a word is replaced
CANDIDATES = 8  # neighbours of a word, of which one is chosen uniformly


class NearestWords:
    """Finds the whole words whose embeddings have the highest cosine with the mean embedding of a word's pieces.

    :param embeddings: of the vocabulary's entries, (V, D).
    :param count: number of words to find.
    """

    def __init__(self, vocabulary: Vocabulary, embeddings: Tensor, count: int) -> None:
        self.vocabulary, self.count = vocabulary, count
        self.embeddings = embeddings.detach().float().cpu()
        self.words = vocabulary.kinds[Kind.CONTENT].nonzero()[:, 0]  # (W,) token ids
        self.table = F.normalize(self.embeddings[self.words], dim=1)  # (W, D)
        self.known: dict[tuple[int, ...], list[str]] = {}

    def of(self, pieces: Sequence[int], word: str) -> list[str]:
        """The nearest words, without the word itself."""
        self.find([pieces])
        return [text for text in self.known[tuple(pieces)] if text != word.lower()][: self.count]

    def find(self, words: Iterable[Sequence[int]]) -> None:
        """Look for the neighbours of many words, given their pieces, at once: one by one takes twenty times as long."""
        new = [key for key in dict.fromkeys(map(tuple, words)) if key not in self.known]
        if not new:
            return
        queries = torch.stack([self.embeddings[list(key)].mean(dim=0) for key in new])  # (N, D)
        cosines = F.normalize(queries, dim=1) @ self.table.T  # (N, W)
        best = cosines.topk(min(self.count + 1, len(self.words)), dim=1).indices
        for key, row in zip(new, self.words[best].tolist(), strict=True):
            self.known[key] = [self.vocabulary.text(token) for token in row]


def make_neighbour_replacement(tokenizer: Tokenizer, embeddings: Tensor) -> Augmentation:
    """The augmentation. Stop words stay, since a sentence hangs on them.

    :param tokenizer: of WordPiece.
    :param embeddings: of its tokens, (V, D).
    :raises UserError: the tokenizer is of another kind.
    """
    vocabulary = read_vocabulary(tokenizer, "transfer.replaced")
    nearest = NearestWords(vocabulary, embeddings, CANDIDATES)

    def replacement(stream: Iterable[Example], rng: random.Random) -> Iterator[Example]:
        for chunk in chunks(stream, CHUNK):
            encodings = encode_examples(tokenizer, chunk)
            found: list[list[tuple[Word, list[int]]]] = []
            for example, encoding in zip(chunk, encodings, strict=True):
                ids = encoding.ids  # a new list at each access
                content = (w for w in replaceable_words(example, encoding, vocabulary) if not is_stop_word(w.text))
                found.append([(word, [ids[position] for position in word.positions]) for word in content])
            nearest.find(pieces for words in found for _, pieces in words)
            for example, encoding, words in zip(chunk, encodings, found, strict=True):
                edits = []
                for word, pieces in words:
                    if rng.random() < PROBABILITY and (choices := nearest.of(pieces, word.text)):
                        edits.append(Edit(word.positions[0], rng.choice(choices), word.positions[-1]))
                yield apply_edits(example, encoding, edits)

    return replacement
