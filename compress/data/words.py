"""The words of a text, also in scripts that have no spaces between words, such as Chinese, Japanese and Thai.

There a word is what a reader sees as one character, with its marks and the punctuation behind it. True words would need a
dictionary for each language. For cutting, joining and exchanging parts of texts, characters do.
"""

from __future__ import annotations

from collections.abc import Sequence

import regex

_SCRIPTS = ("Han", "Hiragana", "Katakana", "Thai", "Lao", "Khmer", "Myanmar")
_UNSPACED = (
    "[" + "".join(rf"\p{{{script}}}" for script in _SCRIPTS) + "々〆〇ー]"
)  # the last four belong to no script of their own
_HAS_UNSPACED = regex.compile(_UNSPACED)
# What stands before a character and belongs to it: opening punctuation, and the vowels of Thai and Lao that are written first.
_BEFORE = r"[\p{Ps}\p{Pi}เแโใไເແໂໃໄ]*"
# What stands behind it: marks, closing punctuation, length marks, and the vowels that are written last.
_BEHIND = r"[\p{M}\p{Pe}\p{Pf}\p{Po}ーะาำๅະາຳ]*"
# A space beside such a character, as Thai has it between sentences, stays with the word before it.
_WORD = regex.compile(
    rf"{_BEFORE}(?={_UNSPACED})\X{_BEHIND}(?:\s+(?=\S))?|(?:(?!{_UNSPACED})\S)+?(?:\s+(?={_BEFORE}{_UNSPACED})|(?=\s|$|{_BEFORE}{_UNSPACED}))"
)


def split_words(text: str) -> list[str]:
    """The words of a text, in order, with their punctuation. A word between spaces, or a character of a script without them."""
    if text.isascii() or not _HAS_UNSPACED.search(text):
        return text.split()
    return [word if word[-1:].strip() else word.rstrip() + " " for word in _WORD.findall(text)]


def join_words(words: Sequence[str]) -> str:
    """The text of some words: with a space between two words, but for those of a script that has none."""
    if all(word.isascii() for word in words):
        return " ".join(words)
    parts: list[str] = []
    for word in words:
        if parts and not (_is_unspaced(parts[-1]) or _is_unspaced(word)):
            parts.append(" ")
        parts.append(word)
    return "".join(parts).strip()


def spaced_words(text: str) -> str:
    """The text in lower case, with spaces between its words in every script: what n-grams of words are counted on."""
    text = text.lower()
    return text if text.isascii() or not _HAS_UNSPACED.search(text) else " ".join(split_words(text))


def _is_unspaced(word: str) -> bool:
    return _HAS_UNSPACED.match(word) is not None
