"""N-gram sampling: contiguous stretches of the training texts (Tang et al. 2019, arXiv 1903.12136, §3.3).

A classifier of whole texts only ever sees one judgement a text. Asked about its parts, the teacher tells which of them
carried it, which a small network would need many more texts to find out.
"""

from __future__ import annotations

import random

from compress.corpus import Split

SHORTEST, LONGEST = 0.15, 0.85  # share of the words that a span keeps


def sample_spans(split: Split, copies: int, seed: int) -> Split:
    """`copies` spans of every text; of a pair, one side chosen at random is cut. The labels are placeholders (−1)."""
    rng = random.Random(f"spans/{seed}")
    texts, texts_b = [], []
    for _ in range(copies):
        for row, text in enumerate(split.texts):
            other = split.texts_b[row] if split.texts_b else None
            if other is not None and rng.random() < 0.5:
                other = _span(other, rng)
            else:
                text = _span(text, rng)
            texts.append(text)
            texts_b.append(other or "")
    return Split(texts, texts_b if split.texts_b else None, [-1] * len(texts), None)


def _span(text: str, rng: random.Random) -> str:
    words = text.split()
    size = max(1, round(len(words) * rng.uniform(SHORTEST, LONGEST)))
    start = rng.randint(0, len(words) - size)
    return " ".join(words[start : start + size])
