"""Measures the latency of a student before it is trained."""

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
from export.session import OnnxModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ROUNDS = 5  # over all texts; the first one is a warm-up and is not counted


def int8_latency(student: PreTrainedModel, *, tokenizer: Path, recipe: Recipe, corpus: Corpus) -> float:
    """Median latency of the student's INT8 graph in milliseconds, at batch 1, with tokenisation.

    It is measured with `bench.threads` threads on `bench.texts` dev texts of the task. The graph is made with the first
    quantisation scheme for the kind of student. The values of the weights do not matter, so the student need not be trained.
    """
    from export.onnx import export_onnx
    from export.quantize import cpu_schemes, quantize

    dev = corpus.splits["dev"]
    rows = random.Random(recipe.seed).sample(range(len(dev)), min(len(dev), recipe.bench.texts))
    texts = [dev.texts[i] for i in rows]
    texts_b = [dev.texts_b[i] for i in rows] if dev.texts_b else None
    with TemporaryDirectory() as name:
        directory = Path(name)
        student.save_pretrained(directory / "student")
        shutil.copyfile(tokenizer, directory / "tokenizer.json")
        pad = json.loads((directory / "student" / "config.json").read_text())["pad_token_id"] or 0
        encoder = TextEncoder(directory / "tokenizer.json", recipe.target.max_length)
        fp32, int8 = directory / "fp32.onnx", directory / "int8.onnx"
        export_onnx(directory / "student", fp32, pair=corpus.pair, max_length=recipe.target.max_length)
        first_scheme = cpu_schemes(student.config.model_type)[0]
        quantize(fp32, int8, first_scheme, encoder.encode(texts, texts_b), pad)
        return _median_latency(OnnxModel(int8, threads=recipe.bench.threads), encoder, texts, texts_b, pad)


def _median_latency(
    model: OnnxModel, encoder: TextEncoder, texts: list[str], texts_b: list[str] | None, pad_token_id: int
) -> float:
    """Median milliseconds to encode one text (or pair) and compute its logits."""
    samples = []
    for number in range(ROUNDS):
        for row, text in enumerate(texts):
            started = time.perf_counter_ns()
            model.logits(pad_batch(encoder.encode([text], texts_b and [texts_b[row]]), pad_token_id))
            if number > 0:
                samples.append((time.perf_counter_ns() - started) / 1e6)
    return statistics.median(samples)
