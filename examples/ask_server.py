"""Ask a server over HTTP, with nothing but Python's own library: `python ask_server.py URL FILE [COLUMN]`.

FILE is a table in CSV with semicolons. Says how many of its texts the student answered, how many the teacher, and how long an answer took.
"""

from __future__ import annotations

import csv
import json
import statistics
import sys
import time
import urllib.request
from collections import Counter


def main(url: str, file: str, column: str = "Review text", most: int = 200) -> None:
    """Ask for one text after another."""
    with open(file, encoding="utf-8", newline="") as table:
        texts = [row[column] for row in csv.DictReader(table, delimiter=";")][:most]
    answered: Counter[str] = Counter()
    times: dict[str, list[float]] = {}
    for text in texts:
        body = json.dumps({"text": text}).encode()
        started = time.perf_counter()
        with urllib.request.urlopen(urllib.request.Request(f"{url}/classify", body), timeout=120) as response:
            answer = json.load(response)
        by = answer.get("model", "student")  # a bundle without a cascade does not say who answered
        answered[by] += 1
        times.setdefault(by, []).append(1000 * (time.perf_counter() - started))
    for by, count in answered.most_common():
        print(f"{by}: {count} of {len(texts)} texts, median {statistics.median(times[by]):.1f} ms")


if __name__ == "__main__":
    main(*sys.argv[1:])
