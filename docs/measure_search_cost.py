"""Compare what the search believes an architecture costs with the time that it takes, for docs/methods.md.

Usage: python docs/measure_search_cost.py artifacts/NAME OUTPUT.json

30 random architectures of the recipe's student, of one cell to the most. Predicted: the cost that the search adds to its loss, a share of that
of the costliest architecture. Measured: milliseconds of the untrained INT8 student with tokenisation, on dev texts of the task, of each
text the fastest of several rounds in which the architectures take turns.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau, spearmanr

from bench.cascade.run import find_task
from bench.environment import describe
from compress.data.domains import load_student_corpus
from compress.data.files import write_json
from compress.recipe.sections import CnnOptions
from compress.runtime.encode import TextEncoder, pad_batch
from compress.search.adabert import read_search
from compress.search.derive import architecture_cost
from compress.search.selection import StudentFactory
from compress.students.genotype import random_genotype
from export.measure import int8_file
from export.session import OnnxModel

ARCHITECTURES, ROUNDS, TEXTS = 30, 15, 50


def main() -> None:
    """Measure, print the correlation, and write the file."""
    place, output = map(Path, sys.argv[1:3])
    recipe, bundle = find_task(place, [], Path("artifacts"))
    root, options = bundle.parent, recipe.student
    assert isinstance(options, CnnOptions), "only a cnn has an architecture"
    costs = read_search(root / "search")[2]
    corpus = load_student_corpus(recipe)
    tokenizer = root / "student" / "tokenizer.json"
    vocabulary = TextEncoder(tokenizer, recipe.target.max_length).tokenizer.get_vocab_size()
    students = StudentFactory(options, vocabulary, len(corpus.labels), corpus.pair)
    drawn = [random_genotype(1 + number % options.max_cells, f"cost/{number}") for number in range(ARCHITECTURES)]
    with tempfile.TemporaryDirectory() as folder:
        models = []
        for number, genotype in enumerate(drawn):
            directory = Path(folder) / str(number)
            directory.mkdir()
            file, _, _, encoder, pad = int8_file(
                students.build(genotype), directory, tokenizer=tokenizer, recipe=recipe, corpus=corpus
            )
            models.append(OnnxModel(file, threads=recipe.bench.threads))
        split = corpus.splits["dev"]
        texts = [[split.texts[row], *([split.texts_b[row]] if split.texts_b else [])] for row in range(TEXTS)]
        samples = np.zeros((ROUNDS, len(models), len(texts)))
        for index in np.ndindex(samples.shape):
            _, number, row = index
            first, *second = texts[row]
            started = time.perf_counter_ns()
            models[number].logits(pad_batch(encoder.encode([first], second or None), pad))
            samples[index] = (time.perf_counter_ns() - started) / 1e6
    milliseconds = samples[1:].min(axis=0).mean(axis=1)
    predicted = [architecture_cost(genotype, costs, options.max_cells, options.halvings) for genotype in drawn]
    found = {
        "spearman": float(spearmanr(predicted, milliseconds)[0]),
        "kendall": float(kendalltau(predicted, milliseconds)[0]),
    }
    rows = [
        {"architecture": str(genotype), "cost": round(cost, 4), "ms": round(float(ms), 4)}
        for genotype, cost, ms in sorted(zip(drawn, predicted, milliseconds, strict=True), key=lambda row: row[1])
    ]
    write_json(
        output,
        {"environment": describe("cpu").model_dump(mode="json"), "recipe": recipe.name, **found, "architectures": rows},
    )
    print(
        f"rank correlation of {len(rows)} architectures: Spearman {found['spearman']:.3f}, Kendall {found['kendall']:.3f}"
    )


if __name__ == "__main__":
    main()
