"""A task small enough to train in seconds: labelled sentences, a BERT of two layers, a recipe that joins them."""

from __future__ import annotations

import itertools
import os
import random
import string
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compress.students.genotype import Edge, Genotype

ROOT = Path(__file__).parents[1]
# Two cells with every kind of operation but zero, so that each has to survive saving, export and quantisation.
GENOTYPE = Genotype(
    cells=2,
    nodes=(
        (Edge(source=0, operation="conv3"), Edge(source=1, operation="dilated5")),
        (Edge(source=0, operation="max_pool3"), Edge(source=2, operation="avg_pool3")),
        (Edge(source=1, operation="identity"), Edge(source=3, operation="conv7")),
    ),
)
GOOD = ["good", "great", "lovely", "superb", "fine", "charming"]
BAD = ["bad", "awful", "dull", "poor", "weak", "boring"]
NOUNS = ["film", "book", "phone", "meal", "song", "game"]


def sentences(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """(text, label) pairs that a bag of words can tell apart, half of each label."""
    rng = random.Random(seed)
    rows = []
    for i in range(count):
        words, label = (GOOD, "positive") if i % 2 else (BAD, "negative")
        rows.append(
            (f"the {rng.choice(NOUNS)} number {i} was {rng.choice(words)} and the {rng.choice(NOUNS)} too", label)
        )
    return rows


SEARCH = """[search]
cost = "computed"  # the same architecture on every machine
epochs = 1
trials = 5
trial_steps = 10
"""
DOMAINS = {"films": ["film", "song"], "games": ["game", "book"], "goods": ["phone", "meal"]}

DOMAIN_RECIPE = """
[data]
source = "files"
train = "train.tsv"
dev = "dev.tsv"
domain = "domain"
max_length = 32
[teacher]
model = "bert"
epochs = 9
batch_size = 16
learning_rate = 3e-3
patience = 6
"""


def domain_sentences(count: int, seed: int = 0) -> list[tuple[str, str, str]]:
    """(text, label, domain) rows; each domain has nouns of its own, and both labels equally often."""
    rng = random.Random(seed)
    rows = []
    for i in range(count):
        domain = list(DOMAINS)[i % 3]
        words, label = (GOOD, "positive") if (i // 3) % 2 else (BAD, "negative")
        first, second = (rng.choice(DOMAINS[domain]) for _ in range(2))
        rows.append((f"the {first} number {i} was {rng.choice(words)} and the {second} too", label, domain))
    return rows


def write_tsv(path: Path, rows: list[tuple[str, ...]], header: tuple[str, ...] = ("text", "label")) -> Path:
    path.write_text("\n".join("\t".join(row) for row in [header, *rows]) + "\n", encoding="utf-8")
    return path


def tiny_teacher(directory: Path) -> Path:
    """A BERT checkpoint of two layers × 32 with a WordPiece tokenizer, random weights.

    Its vocabulary is written down, since the training of one breaks ties by chance.
    """
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    directory.mkdir(parents=True, exist_ok=True)
    characters = [*string.ascii_lowercase, *string.digits]
    words = [*GOOD, *BAD, *NOUNS, "the", "number", "was", "and", "too"]
    numbers = [str(number) for number in range(10, 85)]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *(f"##{c}" for c in characters), *words]
    vocabulary += numbers
    (directory / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    BertTokenizerFast.from_pretrained(directory).save_pretrained(directory)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertForSequenceClassification(config).save_pretrained(directory)
    return directory


def own_hooks(model: Any) -> list[Any]:
    """The forward hooks in a model that this product has put there; transformers keeps some of its own from version 5 on."""
    hooks = (hook for module in model.modules() for hook in module._forward_hooks.values())
    return [hook for hook in hooks if hook.__module__.startswith("compress.")]


class KilledError(Exception):
    """What `killed_at` raises in the place of a kill."""


def at_call(call: int, function: Callable[..., Any], act: Callable[[], None]) -> Callable[..., Any]:
    """The function itself, but `act` runs before its `call`-th call (the first is 1)."""
    calls = itertools.count(1)

    def watched(*arguments: Any, **options: Any) -> Any:
        if next(calls) == call:
            act()
        return function(*arguments, **options)

    return watched


def killed_at(call: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function itself, whose `call`-th call (the first is 1) dies instead; later ones work again."""

    def die() -> None:
        raise KilledError

    return at_call(call, function, die)


def launched(*command: str) -> str:
    """What a command writes to stderr when two processes run it together on the CPU, started by `torchrun`."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": str(ROOT),
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "1",  # seconds until it kills a process that was stopped
    }
    return subprocess.run([*launcher, *command], capture_output=True, text=True, env=environment, cwd=ROOT).stderr


def tiny_recipe(directory: Path, *, rows: int = 400) -> Path:
    """A recipe over files in `directory`; trains in seconds."""
    directory.mkdir(parents=True, exist_ok=True)
    write_tsv(directory / "train.tsv", sentences(rows))
    write_tsv(directory / "dev.tsv", sentences(100, seed=1))
    tiny_teacher(directory / "bert")
    recipe = directory / "tiny.toml"
    recipe.write_text(
        """name = "tiny"
[data]
source = "files"
train = "train.tsv"
dev = "dev.tsv"
max_length = 32
[teacher]
model = "bert"
epochs = 9
learning_rate = 3e-3
[student]
kind = "cnn"
width = 16
max_cells = 2
"""
        + SEARCH
        + """[compress]
average = 0.9
epochs = 4
batch_size = 16
[export]
below_linear = "warn"  # a linear model is perfect here
calibration_texts = 64
""",
        encoding="utf-8",
    )
    return recipe
