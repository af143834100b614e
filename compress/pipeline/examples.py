"""Augmented texts and their originals, printed for a person to read."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from compress.augment.texts import read_lines
from compress.data.batches import encode_split
from compress.data.corpus import UNLABELLED, Split, load_corpus
from compress.data.domains import student_corpus
from compress.recipe import Recipe
from compress.teachers.finetune import open_teacher
from compress.training.accelerator import make_accelerator
from compress.training.evaluation import predict_labels


def shown_examples(recipe: Recipe, artifacts: Path, count: int) -> Iterator[str]:
    """Random augmented texts, a few lines for each. The recipe's seed decides which.

    The lines show the original, the new text, the generator's mean log-likelihood (nats a word) if the method has one, and
    the teacher's label.

    :param artifacts: the directory with the results of the stages `teacher` and `augmented`.
    """
    lines = read_lines(artifacts / "augmented")
    chosen = random.Random(recipe.seed).sample(lines, min(count, len(lines)))
    if not chosen:
        return
    corpus = student_corpus(recipe, load_corpus(recipe.target, recipe.source))
    model, encoder = open_teacher(artifacts / "teacher", recipe.target.max_length)
    model.to(make_accelerator().device)
    texts_b = [line["text_b"] for line in chosen] if corpus.pair else None
    made = Split([line["text"] for line in chosen], texts_b, [UNLABELLED] * len(chosen), None)
    labels = predict_labels(model, encode_split(made, encoder)).tolist()
    for line, label in zip(chosen, labels, strict=True):
        from_source = line.get("source", False)
        original = corpus.source if from_source and corpus.source else corpus.splits["train"]
        before = [original.texts[line["row"]], *([original.texts_b[line["row"]]] if original.texts_b else [])]
        after = [line["text"], *([line["text_b"]] if line["text_b"] is not None else [])]
        likely = f"{line['log_likelihood']:.2f} nats a word" if "log_likelihood" in line else "no likelihood"
        domain = f"{'source' if from_source else 'target'}, " if recipe.source else ""
        yield f"{' ‖ '.join(before)}\n  → {' ‖ '.join(after)}\n    {domain}{likely}, teacher: {corpus.labels[label]}"
