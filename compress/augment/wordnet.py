"""Synonyms from WordNet 3.0, read with NLTK: the other words of every synset of a word or of its base forms."""

from __future__ import annotations

import re
import warnings
from functools import cache
from io import BytesIO, TextIOWrapper
from pathlib import Path

import nltk.data
from nltk.corpus.reader.wordnet import WordNetCorpusReader
from nltk.data import FileSystemPathPointer

from compress.data.assets import wordnet


@cache
def synonyms(word: str) -> tuple[str, ...]:
    """Synonyms of a lower-case word in any part of speech, sorted. A synonym may have several words.

    NLTK finds the base forms of an inflected word (morphy(7WN)): "films" has the synonyms of "film".

    :raises UserError: WordNet is not cached and cannot be fetched.
    """
    found = {_as_text(name) for synset in _load().synsets(word) for name in synset.lemma_names()}
    return tuple(sorted(found - {word, ""}))


class _WordNetReader(WordNetCorpusReader):
    """NLTK's reader for the files of the pinned package."""

    def open(self, file: str) -> TextIOWrapper:
        """A file, in memory, with the line ends of the original release.

        Byte offsets in the index count a line end as one byte, and the package has two (CRLF).
        NLTK's own `open` also refuses files that others may write. These files were checked by SHA-256.
        """
        content = Path(self.root.path, file).read_bytes()
        return TextIOWrapper(BytesIO(content.replace(b"\r\n", b"\n")), encoding="ascii")

    def map_wn(self, version: str = "wordnet") -> None:
        """No map to other releases of WordNet: NLTK needs it for other languages, and needs more files for it."""


def _as_text(name: str) -> str:
    return re.sub(r"[_-]", " ", name).strip().lower()


@cache
def _load() -> WordNetCorpusReader:
    directory = str(wordnet())
    nltk.data.path.append(directory)  # NLTK reads only below the directories of this list
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The multilingual functions are not available")
        return _WordNetReader(FileSystemPathPointer(directory), omw_reader=None)
