"""Write the tables of the examples to tables/, out of the embedded corpus: sentences with the mean rating of twenty people.

Usage: python make_tables.py [ROWS]        at most so many rows in each table; default 4,000

The ratings are real (Hutto & Gilbert, ICWSM 2014, MIT): from −4, very negative, to 4, very positive. What a table asks is made of them.
"""

from __future__ import annotations

import csv
import random
import sys
from collections.abc import Iterator
from pathlib import Path

from compress.data.assets import SENTIMENT_FILES, sentiment_corpus

TABLES = Path("tables")
CLEAR = 0.5  # a rating this far from 0 is of one side
MIXED = 1.0  # one nearer to 0 is neither good nor bad
Sentence = tuple[str, float]


def main(most: int = 4_000) -> None:
    """Write all tables."""
    sentences = {domain: shuffled(list(read(file))) for domain, file in SENTIMENT_FILES.items()}
    movies, products, tweets = sentences["movies"], sentences["products"], sentences["tweets"]
    TABLES.mkdir(exist_ok=True)
    # As a spreadsheet of a shop writes it: semicolons, capital letters, a column that nobody needs.
    rows = [(number, text, mood(rating)) for number, (text, rating) in enumerate(movies[:most], 1)]
    write("films.csv", ("No", "Review text", "Mood"), rows, ";")
    write("pairs.csv", ("first", "second", "better"), list(pairs(movies[: 2 * most])), ",")
    signed, few = signs(tweets), min(100, most)
    write("tweets.csv", ("text", "label"), signed[:few], ",")
    write("tweets_dev.csv", ("text", "label"), signed[few : few + most // 8], ",")
    write("tweets_test.csv", ("text", "label"), signed[-most // 4 :], ",")
    write("reviews.csv", ("text", "label"), signs(movies[: most // 4] + products[: most // 4]), ",")
    part = most // 3
    domains = [(*row, name) for name in ("movies", "products", "tweets") for row in signs(sentences[name][:part])]
    write("domains.csv", ("text", "label", "domain"), shuffled(domains), ",")


def read(file: str) -> Iterator[Sentence]:
    """The sentences of a file of the corpus, each once, with their mean ratings."""
    lines = (sentiment_corpus() / file).read_text(encoding="utf-8").rstrip("\n").split("\n")
    rated = {text: float(rating) for _, rating, text in (line.split("\t", 2) for line in lines)}
    yield from rated.items()


def mood(rating: float) -> str:
    """One of three classes."""
    return "mixed" if abs(rating) < MIXED else "good" if rating > 0 else "bad"


def signs(sentences: list[Sentence]) -> list[tuple[str, str]]:
    """The sentences that are of one side, with it."""
    return [(text, "positive" if rating > 0 else "negative") for text, rating in sentences if abs(rating) >= CLEAR]


def pairs(sentences: list[Sentence]) -> Iterator[tuple[str, str, str]]:
    """Two sentences whose ratings are at least two apart, and which of them is the better one."""
    for (first, one), (second, other) in zip(sentences[::2], sentences[1::2], strict=False):
        if abs(one - other) >= 2:
            yield first, second, "first" if one > other else "second"


def shuffled(rows: list) -> list:
    """The rows in an order that is the same every time."""
    return random.Random(0).sample(rows, len(rows))


def write(name: str, header: tuple[str, ...], rows: list[tuple], separator: str) -> None:
    """Write a table."""
    with (TABLES / name).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=separator).writerows([header, *rows])
    print(f"{TABLES / name}: {len(rows):,} rows")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
