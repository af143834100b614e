"""The texts of a bank: cleaned sentences out of the embedded packages, or the user's own file."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from compress.data.assets import chats, text_bank
from compress.data.tables import read_table
from compress.data.text_files import read_text
from compress.recipe.sections import TextOptions

WORDS = (4, 60)  # fewest and most words of a sentence that is kept
LETTERS = 0.6  # smallest share of letters and spaces in it
_SENTENCE_END = re.compile(r"\s- |(?<=[.!?])[\"'”’)\]]*\s+(?=[A-Z\"'“‘(])")
_LINK = re.compile(r"https?\b\S*( \.\.\.)?")  # the end of a tweet may be cut off, and its link with it


def read_bank(bank: str, options: TextOptions) -> list[tuple[str, ...]]:
    """The texts or pairs of a bank, each once, in the order in which they stand there.

    :param bank: "embedded", or a file: plain text with a text a line, or a table in the columns of the task's data. Of a
        task on pairs, only a table has pairs; the others have single texts.
    :raises UserError: the file cannot be read, or the embedded bank cannot be fetched.
    """
    if bank == "embedded":
        texts: Iterable[tuple[str, ...]] = ((text,) for text in _embedded())
    elif Path(bank).name.lower().removesuffix(".gz").endswith(".txt"):
        lines = map(str.strip, re.split(r"\r\n?|\n", read_text(Path(bank), options)))
        texts = ((line,) for line in lines if line)
    else:
        texts = (tuple(row.texts) for row in read_table(Path(bank), options, "transfer.bank", labelled=False))
    return list({tuple(map(str.casefold, text)): text for text in texts}.values())


def sentences(text: str) -> Iterator[str]:
    """The sentences of a text that read like one: 4 to 60 words, most of it letters, without links."""
    for sentence in _SENTENCE_END.split(re.sub(r"\s+", " ", _LINK.sub("", text).replace("\ufffd", ""))):
        letters = sum(character.isalpha() or character == " " for character in sentence)
        if WORDS[0] <= len(sentence.split()) <= WORDS[1] and letters >= LETTERS * len(sentence):
            yield sentence.strip()


def _embedded() -> Iterator[str]:
    """Sentences of news articles, parliamentary speeches, tweets and chats."""
    directory = text_bank()
    for row in _rows(directory / "NewsArticles.zip"):
        for column in ("title", "subtitle", "text"):
            yield from sentences(row[column])
    for row in _rows(directory / "parlspeech-v2-sample-houseofcommons.zip"):
        yield from sentences(row["text"])
    for row in _rows(directory / "healthtweets.zip"):
        yield from sentences(row["text"])
    conversations = json.loads((chats() / "dataset.json").read_bytes())
    for conversation in conversations.values():
        for turn in conversation["messages"]:
            for message in turn:
                yield from sentences(message["text"])


def _rows(archive: Path) -> Iterator[dict[str, str]]:
    """The rows of the one CSV table in a zip archive."""
    csv.field_size_limit(2**30)  # an article is a field
    with zipfile.ZipFile(archive) as files, files.open(files.namelist()[0]) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", errors="replace", newline="")
        for row in csv.DictReader(text):
            yield {name: value or "" for name, value in row.items() if isinstance(name, str)}
