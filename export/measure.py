"""How long a student would take where it is to run, before it is trained."""

from __future__ import annotations

import json
import random
import shutil
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from compress.data.corpus import Corpus
from compress.recipe import Recipe
from compress.runtime.encode import TextEncoder, pad_batch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ROUNDS = 5  # over all texts, the first of which is not counted


def int8_latency(student: PreTrainedModel, *, tokenizer: Path, recipe: Recipe, corpus: Corpus) -> float:
    """Median milliseconds in which the student's INT8 form answers one of the task's dev texts, tokenisation included.

    With `bench.threads` threads, on texts that `bench.texts` counts. Its weights have no part in it, so that a student
    need not be trained; it is quantised the first way that its kind is tried in.
    """
    from export.onnx import export_onnx
    from export.quantize import cpu_schemes, quantize
    from export.session import OnnxModel

    dev = corpus.splits["dev"]
    rows = random.Random(recipe.seed).sample(range(len(dev)), min(len(dev), recipe.bench.texts))
    with TemporaryDirectory() as name:
        directory = Path(name)
        student.save_pretrained(directory / "student")
        shutil.copyfile(tokenizer, directory / "tokenizer.json")
        pad = json.loads((directory / "student" / "config.json").read_text())["pad_token_id"] or 0
        encoder = TextEncoder(directory / "tokenizer.json", recipe.target.max_length)
        encoded = encoder.encode([dev.texts[i] for i in rows], [dev.texts_b[i] for i in rows] if dev.texts_b else None)
        fp32, int8 = directory / "fp32.onnx", directory / "int8.onnx"
        export_onnx(directory / "student", fp32, pair=corpus.pair, max_length=recipe.target.max_length)
        quantize(fp32, int8, cpu_schemes(student.config.model_type)[0], encoded, pad)
        model = OnnxModel(int8, threads=recipe.bench.threads)
        samples = []
        for number in range(ROUNDS):
            for row in rows:
                started = time.perf_counter_ns()
                model.logits(pad_batch(encoder.encode([dev.texts[row]], dev.texts_b and [dev.texts_b[row]]), pad))
                if number:
                    samples.append((time.perf_counter_ns() - started) / 1e6)
    return statistics.median(samples)
