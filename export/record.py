"""What a bundle records of its making: the gate's figures, golden examples, versions, the student's card."""

from __future__ import annotations

import json
import platform
import random
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from compress.data.corpus import Corpus
from compress.recipe import Recipe
from compress.runtime.encode import TextEncoder
from export.gate import GateResult
from export.golden import DIGITS, GoldenExamples
from export.session import OnnxModel

PACKAGES = ("numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "pocketbert", "tokenizers", "torch", "transformers")


def measured(result: GateResult | None) -> dict[str, Any]:
    """The fields of a `ModelEntry` that the gate fills. None: the model could not run where it was built."""
    names = {"dev_accuracy": "dev", "test_accuracy": "test", "drop": "drop", "passed": "passed"}
    if result is None:
        return dict.fromkeys(names)
    names |= {"dev_error": "dev_error", "test_error": "test_error", "agreement": "agreement", "classes": "classes"}
    return {field: getattr(result, name) for field, name in names.items()}


def golden_examples(
    recipe: Recipe, corpus: Corpus, encoder: TextEncoder, models: Mapping[str, Path], pad_token_id: int
) -> GoldenExamples | None:
    """`export.golden_texts` dev texts, drawn with the recipe's seed, and what each ONNX file answers. None if none are wanted.

    :param models: the files by precision.
    """
    dev = corpus.splits["dev"]
    drawn = random.Random(recipe.seed).sample(range(len(dev)), min(len(dev), recipe.export.golden_texts))
    found = encoder.encode([dev.texts[i] for i in drawn], [dev.texts_b[i] for i in drawn] if dev.texts_b else None)
    kept = {
        row: one for row, one in zip(drawn, found, strict=True) if len(one)
    }  # no model reads a text without a token
    if not kept:
        return None
    encoded = list(kept.values())
    logits = {name: OnnxModel(file).logits_in_batches(encoded, pad_token_id, 1) for name, file in models.items()}
    return GoldenExamples(
        labels=corpus.labels,
        texts=[dev.texts[row] for row in kept],
        texts_b=[dev.texts_b[row] for row in kept] if dev.texts_b else None,
        input_ids=[one.input_ids.tolist() for one in encoded],
        logits={
            name: [[round(value, DIGITS) for value in row] for row in rows.tolist()] for name, rows in logits.items()
        },
    )


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that shape a bundle, as far as they are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def read_card(student: Path) -> dict[str, Any]:
    """The content of the student's `card.json`."""
    return json.loads((student / "card.json").read_text(encoding="utf-8"))


def provenance(student: Path) -> dict[str, Any]:
    """The student's card without its training history."""
    card = read_card(student)
    del card["history"]
    return card
