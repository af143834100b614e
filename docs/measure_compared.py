"""Measure the table of docs/compared.md: other tools trained on the default task's texts and asked beside a bundle of this project.

Usage: python docs/measure_compared.py artifacts/NAME PYTHON OPTIMUM FOLDER [OUTPUT.json]

PYTHON is the interpreter of an environment with `pip install fasttext-wheel setfit 'model2vec[distill,train]'`, OPTIMUM that of `make optimum`.
What is trained, and how it does, is kept in FOLDER and not made again. One core. The time of an answer is the CPU time of one text of
128 tokens, tokenisation included: other work on the core changes it less than the time of a clock. All tools take turns, round by round, so
that what changes on the machine meets all alike.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.cascade.run import find_task
from bench.environment import describe
from bench.inputs import TextBuilder, Texts
from bench.isolate import child_environment
from compress.data.assets import minilm
from compress.data.corpus import Corpus
from compress.data.domains import load_student_corpus
from export.bundle import TOKENIZER, Bundle

ENGINES = Path(__file__).with_name("compared_engines.py")
ROUNDS, TEXTS, TOKENS = 10, 6, 128
TOOLS = ("tfidf", "fasttext", "model2vec", "optimum-6", "optimum-3")
FEW = ("setfit", "tfidf")  # trained on few labels of each class too
DRAWS = {8: (0, 1), 16: (0,)}  # labels of each class → seeds of the draws


def main() -> None:
    """Measure, and write the file."""
    place, other, optimum, folder = Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4])
    output = Path(sys.argv[5]) if sys.argv[5:] else Path(__file__).with_name("compared.json")
    recipe, bundle = find_task(place, [], Path("artifacts"))
    corpus = load_student_corpus(recipe)
    prepare(folder, corpus, bundle)
    pythons = {"tfidf": sys.executable, "optimum-6": optimum, "optimum-3": optimum}
    few = [
        (f"{name}-{labels}-{seed}", name, (str(labels), str(seed)))
        for labels in DRAWS
        for name in FEW
        for seed in DRAWS[labels]
    ]
    tools = {name: Tool(folder, name, pythons.get(name, other)) for name in TOOLS}
    tools |= {full: Tool(folder, full, pythons.get(name, other), draw) for full, name, draw in few}
    made = {name: tool.train() for name, tool in tools.items()}
    tools["pocketbert"] = Tool(folder, "pocketbert", sys.executable)
    test = Texts(corpus.splits["test"].texts)
    texts = TextBuilder(bundle / TOKENIZER, test).build(TOKENS, ROUNDS * TEXTS).first
    # The times of a tool do not depend on how many labels it has seen.
    timed = [tools[name] for name in ("pocketbert", *TOOLS, f"setfit-{max(DRAWS)}-0")]
    found = {
        "environment": describe("cpu").model_dump(mode="json"),
        "tokens": TOKENS,
        "labels": len(corpus.labels),
        "texts": {split: len(rows) for split, rows in corpus.splits.items()},
        "made": made,
        "bytes": {name: tool.bytes() for name, tool in tools.items()},
        "right": {name: tool.score() for name, tool in tools.items() if not name.startswith("optimum")},
        "ms": take_turns(timed, texts),
    }
    output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def prepare(folder: Path, corpus: Corpus, bundle: Path) -> None:
    """Put into the folder what the tools need: texts with labels, the encoder, the bundle."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, split in corpus.splits.items():
        rows = [(text, corpus.labels[label]) for text, label in zip(split.texts, split.labels, strict=True)]
        (folder / f"{name}.json").write_text(json.dumps(rows), encoding="utf-8")
    for name, source in (("encoder", minilm()), ("pocketbert", bundle)):
        shutil.copytree(source, folder / name, dirs_exist_ok=True)


@dataclass(frozen=True)
class Tool:
    """A tool, trained on all labelled texts or on a draw of a few.

    :param python: the interpreter that has it.
    :param draw: number of labels of each class, and seed.
    """

    folder: Path
    name: str
    python: str
    draw: tuple[str, ...] = ()

    def train(self) -> dict[str, Any]:
        """Train it if it is not there: seconds of CPU, settings and versions."""
        kept = self.folder / f"{self.name}.made.json"
        if not kept.exists():
            done = subprocess.run(
                self._command("train", *self.draw),
                env=child_environment(1),
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            kept.write_text(done.stdout.splitlines()[-1], encoding="utf-8")
        return json.loads(kept.read_text(encoding="utf-8"))

    def bytes(self) -> int:
        """Size of what is loaded to answer."""
        if self.name == "pocketbert":
            manifest = Bundle(self.folder / self.name).manifest
            return sum(manifest.files[name].bytes for name in (manifest.models[manifest.default].file, TOKENIZER))
        return sum(file.stat().st_size for file in (self.folder / self.name).rglob("*") if file.is_file())

    def score(self) -> int:
        """How many test texts get their label; kept too, but for the bundle, which may be another one."""
        kept = self.folder / f"{self.name}.score.json"
        if not kept.exists() or self.name == "pocketbert":
            with self.running() as ask:
                kept.write_text(json.dumps(ask("score")), encoding="utf-8")
        return int(json.loads(kept.read_text(encoding="utf-8")))

    @contextmanager
    def running(self) -> Iterator[Callable[[Any], Any]]:
        """A process of its own that answers."""
        pipe = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        with subprocess.Popen(self._command("answer"), env=child_environment(1), **pipe) as process:

            def ask(question: Any) -> Any:
                process.stdin.write(json.dumps(question) + "\n")
                process.stdin.flush()
                return json.loads(process.stdout.readline())

            if process.stdout.readline() != "ready\n":
                sys.exit(f"{self.name}: `{' '.join(self._command('answer'))}` does not start")
            yield ask
            process.stdin.close()

    def _command(self, what: str, *more: str) -> list[str]:
        return [self.python, str(ENGINES), what, self.name, str(self.folder), *more]


def take_turns(tools: list[Tool], texts: list[str]) -> dict[str, dict[str, float]]:
    """Milliseconds of CPU for an answer: median and least, over the same texts for all. The first round is a warm-up."""
    with ExitStack() as processes:
        asks = {tool.name: processes.enter_context(tool.running()) for tool in tools}
        samples: dict[str, list[float]] = {name: [] for name in asks}
        for turn in range(-1, ROUNDS):
            some = texts[TEXTS * max(turn, 0) : TEXTS * (max(turn, 0) + 1)]
            for name, ask in list(asks.items()) if turn % 2 else reversed(list(asks.items())):
                ask(some[:2])  # another tool had the caches
                samples[name] += ask(some) if turn >= 0 else ask(some)[:0]
    return {name: {"median": statistics.median(one), "least": min(one)} for name, one in samples.items()}


if __name__ == "__main__":
    main()
