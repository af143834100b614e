"""Measure where the CPU time of a row and of a request goes, for docs/costs.md.

Usage: python docs/measure_costs.py artifacts/NAME artifacts/CASCADE OUTPUT.json

The second bundle is one with a cascade, of which only the memory is taken.

All figures are microseconds of CPU time, which other work on the machine changes less than times of a clock; each is the least of several
rounds. Rows: `run_bulk` with one worker in this process, over the test texts of the bundle's recipe, from CSV to CSV and from Parquet to
Parquet. Requests: a server with one worker, to which `pocketbert load` sends one text at a time over 16 connections; its CPU time is
that of its process, and the steps inside are called again here with the same texts.
"""

from __future__ import annotations

import csv
import functools
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pyarrow
import pyarrow.parquet

import serve.bulk.worker
from bench.cascade.run import find_task
from bench.environment import describe
from compress.data.domains import load_student_corpus
from compress.runtime.encode import TextEncoder
from export.bundle import find_bundle
from export.session import BundleSession
from serve.bulk.chunks import Reader
from serve.bulk.job import run_bulk
from serve.bulk.options import BulkOptions
from serve.bulk.parts import Output
from serve.bulk.rows import Writer
from serve.bulk.worker import Worker
from serve.predictor import Predictor
from serve.settings import Settings

ROWS, ROUNDS, PORT = 20_000, 3, 3998
SPENT: Counter[str] = Counter()  # CPU seconds by step


def main() -> None:
    """Measure, and write the file."""
    place, cascade, output = map(Path, sys.argv[1:4])
    recipe, bundle = find_task(place, [], Path("artifacts"))
    texts = load_student_corpus(recipe).splits["test"].texts
    watch_bulk()
    with tempfile.TemporaryDirectory() as folder:
        found = {
            "environment": describe("cpu").model_dump(mode="json"),
            "bundle": Predictor(Settings(bundle=bundle)).info.precision,
            "mean_tokens": mean_tokens(bundle, texts),
            "mean_bytes": mean_bytes(bundle, texts),
            "memory_bytes": {"student": memory(bundle), "cascade": memory(find_bundle(cascade))},
            "rows": {kind: bulk(bundle, texts, kind, Path(folder)) for kind in ("csv", "parquet")},
            "request": request(bundle, texts, Path(folder)),
        }
    output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def mean_tokens(bundle: Path, texts: list[str]) -> float:
    """Tokens of a text, special ones included."""
    encoded = Predictor(Settings(bundle=bundle)).session.encoder.encode(texts)
    return round(sum(map(len, encoded)) / len(encoded), 1)


def mean_bytes(bundle: Path, texts: list[str]) -> dict[str, float]:
    """Bytes of the JSON of a request of one text, and of its answer."""
    predictor = Predictor(Settings(bundle=bundle))
    asked = [json.dumps({"text": text}).encode() for text in texts]
    told = [predictor.classify(predictor.parse(body)).model_dump_json(exclude_none=True) for body in asked]
    return {"request": round(sum(map(len, asked)) / len(asked)), "answer": round(sum(map(len, told)) / len(told))}


def memory(bundle: Path) -> int:
    """The most memory that a process holds that answers long and short texts of a bundle."""
    program = (
        "import sys; from serve.predictor import Predictor; from serve.settings import Settings; from serve.messages import Request;"
        "p = Predictor(Settings(bundle=sys.argv[1])); [p.classify(Request(text=['word ' * n] * 32)) for n in (8, 32, 128)];"
        "[print(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM')]"
    )
    done = subprocess.run([sys.executable, "-c", program, str(bundle)], check=True, capture_output=True, text=True)
    return 1024 * int(done.stdout)


def watch_bulk() -> None:
    """Have the steps of a bulk job count their time in `SPENT`."""

    def timed(owner: Any, name: str, step: str) -> None:
        function = getattr(owner, name)

        @functools.wraps(function)
        def wrapper(*args: Any, **options: Any) -> Any:
            return count(step, functools.partial(function, *args, **options))

        setattr(owner, name, wrapper)

    def chunks(self: Reader, original: Callable[[Reader], Iterator[Any]] = Reader.chunks) -> Iterator[Any]:
        steps = original(self)
        while (chunk := count("read", lambda: next(steps, None))) is not None:
            yield chunk

    Reader.chunks = chunks  # type: ignore[method-assign]
    timed(Worker, "__init__", "load")
    timed(serve.bulk.worker, "read_chunk", "read")
    timed(TextEncoder, "encode", "tokenise")
    timed(BundleSession, "probabilities", "model")
    timed(Writer, "write", "write")
    timed(Output, "write", "write")
    timed(Output, "finish", "write")


def count(step: str, function: Callable[[], Any]) -> Any:
    """Call a function, and count its CPU time as a step's."""
    start = time.process_time()
    try:
        return function()
    finally:
        SPENT[step] += time.process_time() - start


def bulk(bundle: Path, texts: list[str], kind: str, folder: Path) -> dict[str, float]:
    """Microseconds of a row, by step."""
    source, target = folder / f"in.{kind}", folder / f"out.{kind}"
    repeated = list(itertools.islice(itertools.cycle(texts), ROWS))
    if kind == "csv":
        with source.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["id", "text"], *([number, text] for number, text in enumerate(repeated))])
    else:
        pyarrow.parquet.write_table(pyarrow.table({"id": range(ROWS), "text": repeated}), source)
    rounds = []
    for _ in range(ROUNDS):
        SPENT.clear()
        options = BulkOptions(str(source), str(target), workers=1, force=True)
        count("all", lambda options=options: run_bulk(bundle, options, lambda state: None))
        loading = SPENT.pop("load")
        SPENT["all"] -= loading
        SPENT["rest"] = 2 * SPENT["all"] - sum(SPENT.values())  # all less each step
        rounds.append({step: round(1e6 * seconds / ROWS, 1) for step, seconds in SPENT.items()})
    return min(rounds, key=lambda one: one["all"])


def request(bundle: Path, texts: list[str], folder: Path) -> dict[str, float]:
    """Microseconds of a request of one text, by step."""
    predictor = Predictor(Settings(bundle=bundle))
    bodies = [json.dumps({"text": text}).encode() for text in texts]
    parsed, read = steps(bodies, predictor.parse)
    encoded, tokenise = steps(parsed, lambda one: predictor.session.encoder.encode(one.texts))
    _, model = steps(encoded, predictor.session.probabilities)
    drafts = [predictor.draft(one) for one in parsed]
    _, answer = steps(drafts, lambda one: predictor.finish(one).model_dump_json(exclude_none=True))
    found = {"read JSON": read, "tokenise": tokenise, "model": model, "write JSON": answer}
    whole = served(bundle, texts, folder)
    return {"all": whole, **found, "HTTP and the rest": round(whole - sum(found.values()), 1)}


def steps(given: list[Any], function: Callable[[Any], Any]) -> tuple[list[Any], float]:
    """The results of a function, and the microseconds of a call."""
    results, times = [], []
    for _ in range(ROUNDS):
        start = time.process_time()
        results = [function(one) for one in given]
        times.append(1e6 * (time.process_time() - start) / len(given))
    return results, round(min(times), 1)


def served(bundle: Path, texts: list[str], folder: Path) -> float:
    """Microseconds of CPU time that a server's worker takes for a request."""
    url, lines = f"http://127.0.0.1:{PORT}", folder / "texts.txt"
    lines.write_text("".join(" ".join(text.split()) + "\n" for text in texts), encoding="utf-8")
    command = [sys.executable, "-m", "serve", str(bundle), "--port", str(PORT), "--host", "127.0.0.1"]
    server = subprocess.Popen(command)
    try:
        while not answers(f"{url}/readyz"):
            if server.poll() is not None:
                sys.exit(f"`{' '.join(command)}` ended before it answered")
            time.sleep(0.2)
        [worker] = psutil.Process(server.pid).children()
        load = [sys.executable, "-m", "bench", "http", url, "--connections", "16", "--seconds", "5"]
        found = []
        for _ in range(ROUNDS):
            requests, seconds = handled(url), sum(worker.cpu_times()[:2])
            subprocess.run([*load, "--texts", str(lines), "--out", str(folder / "load")], check=True)
            found.append(1e6 * (sum(worker.cpu_times()[:2]) - seconds) / (handled(url) - requests))
        return round(min(found), 1)
    finally:
        server.terminate()
        server.wait()


def answers(url: str) -> bool:
    """Whether a server says 200 there."""
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


def handled(url: str) -> float:
    """The requests that a server has answered."""
    name = 'pocketbert_request_seconds_count{path="/classify"}'
    return sum(
        float(line.split()[-1]) for line in httpx.get(f"{url}/metrics").text.splitlines() if line.startswith(name)
    )


if __name__ == "__main__":
    main()
