"""How much each word of a text speaks for its label: the text is classified again without each of its words. No torch."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.runtime.encode import TextEncoder
from export.session import BundleSession, FloatArray
from serve.messages import RefusedError, Request, Word
from serve.settings import Limits

# A word is what stands between white space, with the punctuation that touches it. Chinese and Japanese put no space between
# words, so each of their characters is one.
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(f"[{_CJK}]|[^\\s{_CJK}]+")


@dataclass(frozen=True)
class _Part:
    """One of the texts of a pair, or the only text."""

    text: str
    spans: list[tuple[int, int]]  # first and last character + 1 of each word
    read: int  # how many of them the model reads; what comes later is cut off

    def without(self, word: int) -> str:
        """The text without a word and the white space after it; without the last word, the white space before it goes."""
        start, end = self.spans[word]
        if word + 1 < len(self.spans):
            end = self.spans[word + 1][0]
        elif word:
            start = self.spans[word - 1][1]
        return self.text[:start] + self.text[end:]

    def words(self, weights: NDArray[np.float64]) -> list[Word]:
        """The words with their weights; those that the model does not read have none."""
        texts = [self.text[start:end] for start, end in self.spans]
        known: list[float | None] = [round(float(weight), 4) for weight in weights]
        return [
            Word(word=text, weight=weight) for text, weight in zip(texts, known + [None] * len(texts), strict=False)
        ]


@dataclass(frozen=True)
class Explained:
    """What a model says about a text or pair, and about each of its words."""

    logits: FloatArray  # (C,)
    truncated: bool
    words: list[list[Word]]  # of each text


def runs(request: Request, max_length: int) -> int:
    """How often the model runs to explain a request: once, and once without each word. It reads `max_length` words at most."""
    words = sum(len(_WORD.findall(text)) for text in [*request.texts, *(request.texts_b or [])])
    return 1 + min(words, max_length)


def explain(session: BundleSession, request: Request, limits: Limits) -> Explained:
    """Classify a text or pair with all its words, and without each word that the model reads.

    The weight of a word is `log_odds(whole text) - log_odds(text without the word)` of the label that the whole text gets. That is
    erasure (Li, Monroe and Jurafsky 2016, arXiv 1612.08220), but with a difference of log-odds where the paper has a relative
    difference of log-likelihoods, which grows without bound where the model is sure. It is the difference between what `/classify`
    answers to these texts, and no approximation. Weights do not add up to anything: of two words that say the same, each may be
    missed little.

    :raises RefusedError: the request is a list, the tokenizer finds no token in it, or none without one of the words (422); all
        that is to be classified is more than `limits` allow in one request (413).
    """
    if request.is_list:
        raise RefusedError("text: must be a string; words are explained for one text at a time")
    parts = _parts(session.encoder, [*request.texts, *(request.texts_b or [])])
    _check_size(parts, limits)
    encoded = session.encoder.encode(*_texts_to_classify(parts))
    if len(encoded[0]) <= session.encoder.special_tokens:
        raise RefusedError("text: holds no token of the vocabulary")
    if not all(map(len, encoded)):
        raise RefusedError("text: no token of the vocabulary is left without one of its words; send more words")
    logits = session.calibrated_logits(encoded)
    odds = log_odds(logits, int(logits[0].argmax()))
    weights = np.split(odds[0] - odds[1:], np.cumsum([part.read for part in parts])[:-1])
    words = [part.words(own) for part, own in zip(parts, weights, strict=True)]
    return Explained(logits[0], encoded[0].truncated, words)


def log_odds(logits: FloatArray, label: int) -> NDArray[np.float64]:
    """log(p / (1 - p)) of a label, with p from the softmax of each row: logits (N, C) → (N,)."""
    wide = logits.astype(np.float64)
    return wide[:, label] - np.logaddexp.reduce(np.delete(wide, label, axis=1), axis=1)


def _parts(encoder: TextEncoder, texts: list[str]) -> list[_Part]:
    encoding = encoder.tokenizer.encode(texts[0], texts[1] if len(texts) > 1 else None)
    parts = []
    for i, text in enumerate(texts):
        ends = [end for (_, end), part in zip(encoding.offsets, encoding.sequence_ids, strict=True) if part == i]
        spans = [match.span() for match in _WORD.finditer(text)]
        parts.append(_Part(text, spans, sum(start < max(ends, default=0) for start, _ in spans)))
    return parts


def _texts_to_classify(parts: list[_Part]) -> list[list[str]]:
    """The whole, then all without one word, as a list for each text of a pair, or as the only list."""
    rows = [[part.text for part in parts]]
    for i, part in enumerate(parts):
        for word in range(part.read):
            rows.append([part.without(word) if i == j else other.text for j, other in enumerate(parts)])
    return [list(column) for column in zip(*rows, strict=True)]


def _check_size(parts: list[_Part], limits: Limits) -> None:
    """Hold the texts to be classified to what one request to `/classify` may hold."""
    words = sum(part.read for part in parts)
    if words + 1 > limits.texts:
        raise RefusedError(f"text: {words} words; at most {limits.texts - 1} can be explained, so send fewer", 413)
    characters = sum(len(part.text) for part in parts)
    if (words + 1) * characters > limits.body_bytes:
        most = limits.body_bytes // (words + 1)
        raise RefusedError(f"text: {characters} characters; at most {most} can be explained with {words} words", 413)
