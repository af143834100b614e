"""Measures the latency of a student, also before it is trained."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

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
    Its vectors get random values.
    """
    with TemporaryDirectory() as directory:
        return file_latency(*int8_file(student, Path(directory), tokenizer=tokenizer, recipe=recipe, corpus=corpus))


def int8_file(
    student: PreTrainedModel, directory: Path, *, tokenizer: Path, recipe: Recipe, corpus: Corpus
) -> tuple[Path, Recipe, Corpus, TextEncoder, int]:
    """Write the student's INT8 graph to a directory; what `file_latency` takes to measure it."""
    from export.onnx import export_onnx
    from export.quantize import cpu_schemes, quantize
    from export.tokenizer_check import check_tokenizer

    _without_equal_vectors(student)
    student.save_pretrained(directory / "student")
    pad = json.loads((directory / "student" / "config.json").read_text())["pad_token_id"] or 0
    texts, texts_b = _timed_texts(recipe, corpus)
    # The bundle will check all texts of the task. The timed ones are enough to know which tokenizer it will most likely use.
    fast = check_tokenizer(tokenizer, recipe.target.max_length, [texts, *([] if texts_b is None else [texts_b])], odd=0)
    encoder = TextEncoder(tokenizer, recipe.target.max_length, nanotoken=fast.version if fast else None)
    fp32, int8 = directory / "fp32.onnx", directory / "int8.onnx"
    export_onnx(directory / "student", fp32, pair=corpus.pair, max_length=recipe.target.max_length, for_int8=True)
    first_scheme = cpu_schemes(student.config.model_type)[0]
    quantize(fp32, int8, first_scheme, encoder.encode(texts, texts_b), pad)
    return int8, recipe, corpus, encoder, pad


def _without_equal_vectors(student: PreTrainedModel) -> None:
    """Change the vectors among the weights a little, in place.

    In a student before its training all biases are zero. The exporter keeps one of several equal constants, but in INT8 each bias has a
    scale of its own, so ONNX Runtime would compute with the others in floats: a convolution then takes three times as long.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in student.parameters():
            if weight.dim() == 1:
                weight += 0.01 * torch.randn(weight.shape, generator=generator).to(weight)


def file_latency(file: Path, recipe: Recipe, corpus: Corpus, encoder: TextEncoder, pad_token_id: int) -> float:
    """Median milliseconds to encode one text (or pair) and compute its logits with an ONNX file.

    It is measured with `bench.threads` threads on `bench.texts` dev texts of the task.
    """
    return float(np.median(_samples(file, recipe, corpus, encoder, pad_token_id, ROUNDS)))


def mean_latency(file: Path, recipe: Recipe, corpus: Corpus, encoder: TextEncoder, pad_token_id: int) -> float:
    """As `file_latency`, but the mean over the texts: of each text the faster of two runs counts."""
    return float(_samples(file, recipe, corpus, encoder, pad_token_id, 3).min(axis=0).mean())


def _samples(
    file: Path, recipe: Recipe, corpus: Corpus, encoder: TextEncoder, pad_token_id: int, rounds: int
) -> NDArray[np.float64]:
    """Milliseconds (rounds − 1, texts): of each text in each round but the first, which is a warm-up."""
    model = OnnxModel(file, threads=recipe.bench.threads)
    texts, texts_b = _timed_texts(recipe, corpus)
    samples = np.zeros((rounds, len(texts)))
    for number in range(rounds):
        for row, text in enumerate(texts):
            started = time.perf_counter_ns()
            model.logits(pad_batch(encoder.encode([text], texts_b and [texts_b[row]]), pad_token_id))
            samples[number, row] = (time.perf_counter_ns() - started) / 1e6
    return samples[1:]


def _timed_texts(recipe: Recipe, corpus: Corpus) -> tuple[list[str], list[str] | None]:
    """A random choice of dev texts, and the second texts of pairs."""
    dev = corpus.splits["dev"]
    rows = random.Random(recipe.seed).sample(range(len(dev)), min(len(dev), recipe.bench.texts))
    return [dev.texts[i] for i in rows], [dev.texts_b[i] for i in rows] if dev.texts_b else None
