"""The tools of docs/compared.md, each trained as its own documentation shows. `measure_compared.py` runs this file.

    PYTHON compared_engines.py train ENGINE FOLDER [LABELS SEED]   trains on the texts of FOLDER, prints what it made as JSON
    PYTHON compared_engines.py answer ENGINE FOLDER                answers lines of JSON on stdin

The tools need other packages than this project, so the interpreter may be that of another environment, and this file imports nothing of
the project but for the project's own engine. LABELS: only so many labelled texts of each class, drawn with SEED.
"""

from __future__ import annotations

import json
import pickle
import random
import re
import shutil
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

Rows = list[tuple[str, str]]  # (text, label)
Answer = Callable[[list[str]], list[str]]  # texts → labels
BATCH = 64


def read(folder: Path, split: str) -> Rows:
    """The texts of a split and their labels."""
    return [(text, label) for text, label in json.loads((folder / f"{split}.json").read_text(encoding="utf-8"))]


def few(rows: Rows, labels: int, seed: int) -> Rows:
    """So many texts of each class, drawn at random."""
    shuffled = random.Random(seed).sample(rows, len(rows))
    return [
        row for name in sorted({label for _, label in rows}) for row in [r for r in shuffled if r[1] == name][:labels]
    ]


def accuracy(answer: Answer, rows: Rows) -> float:
    """Share of the texts that get their label."""
    given = [
        label
        for start in range(0, len(rows), BATCH)
        for label in answer([text for text, _ in rows[start : start + BATCH]])
    ]
    return sum(one == label for one, (_, label) in zip(given, rows, strict=True)) / len(rows)


class _Tfidf:
    """scikit-learn's TF-IDF of words and pairs of words with logistic regression; its C is the best on dev."""

    packages = ("scikit-learn",)

    @staticmethod
    def train(train: Rows, dev: Rows, encoder: Path, out: Path) -> dict[str, Any]:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        texts, labels = zip(*train, strict=True)
        models = [
            make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(C=strength, max_iter=1000)).fit(
                texts, labels
            )
            for strength in (0.3, 1, 3, 10, 30)
        ]
        best = max(models, key=lambda model: accuracy(lambda some: model.predict(some).tolist(), dev))
        (out / "model.pickle").write_bytes(pickle.dumps(best))
        return {"settings": f"words and pairs of words, C={best[-1].C}"}

    @staticmethod
    def open(out: Path) -> Answer:
        model = pickle.loads((out / "model.pickle").read_bytes())
        return lambda texts: model.predict(texts).tolist()


class _FastText:
    """fastText's own program; learning rate and epochs are the best on dev."""

    packages = ("fasttext-wheel",)

    @staticmethod
    def train(train: Rows, dev: Rows, encoder: Path, out: Path) -> dict[str, Any]:
        import fasttext

        lines = [f"__label__{label} {_FastText.tokens(text)}\n" for text, label in train]
        (out / "train.txt").write_text("".join(lines), encoding="utf-8")
        found = []
        for rate in (0.1, 0.3, 1.0):
            for epochs in (5, 25):
                model = fasttext.train_supervised(
                    str(out / "train.txt"),
                    lr=rate,
                    epoch=epochs,
                    wordNgrams=2,
                    dim=100,
                    bucket=200_000,
                    thread=1,
                    verbose=0,
                    seed=0,
                )
                model.save_model(str(out / "candidate.bin"))
                score = accuracy(_FastText.answers(model), dev)
                if not found or score > found[0]:
                    found = [score, rate, epochs]
                    (out / "candidate.bin").replace(out / "model.bin")
        (out / "candidate.bin").unlink(missing_ok=True)
        (out / "train.txt").unlink()
        return {"settings": f"lr={found[1]}, epoch={found[2]}, wordNgrams=2, dim=100"}

    @staticmethod
    def tokens(text: str) -> str:
        """Words in lower case with spaces between them, as fastText wants them."""
        return " ".join(re.findall(r"\w+|[^\w\s]", text.lower()))

    @staticmethod
    def answers(model: Any) -> Answer:
        # `model.predict` of 0.9.2 fails with NumPy 2, so its C++ function is called as that method calls it.
        return lambda texts: [
            model.f.predict(_FastText.tokens(text) + "\n", 1, 0.0, "strict")[0][1].removeprefix("__label__")
            for text in texts
        ]

    @staticmethod
    def open(out: Path) -> Answer:
        import fasttext

        fasttext.FastText.eprint = lambda *args: None  # a warning about load_model on stderr
        return _FastText.answers(fasttext.load_model(str(out / "model.bin")))


class _Model2Vec:
    """model2vec: static embeddings distilled from the encoder, then its own classifier on them."""

    packages = ("model2vec",)

    @staticmethod
    def train(train: Rows, dev: Rows, encoder: Path, out: Path) -> dict[str, Any]:
        from model2vec.distill import distill
        from model2vec.train import StaticModelForClassification

        texts, labels = (list(column) for column in zip(*train, strict=True))
        classifier = StaticModelForClassification.from_static_model(
            model=distill(model_name=str(encoder), device="cpu")
        )
        x_val, y_val = (list(column) for column in zip(*dev, strict=True))
        classifier.fit(texts, labels, X_val=x_val, y_val=y_val, device="cpu")
        classifier.to_pipeline().save_pretrained(str(out / "model"))
        return {"settings": "distil, then train with early stopping, defaults"}

    @staticmethod
    def open(out: Path) -> Answer:
        from model2vec.inference import StaticModelPipeline

        model = StaticModelPipeline.from_pretrained(str(out / "model"))
        return lambda texts: [str(label) for label in model.predict(texts)]


class _SetFit:
    """SetFit: the encoder fine-tuned on pairs of texts, then logistic regression on its embeddings."""

    packages = ("setfit", "sentence-transformers", "transformers", "torch")

    @staticmethod
    def train(train: Rows, dev: Rows, encoder: Path, out: Path) -> dict[str, Any]:
        from datasets import Dataset
        from setfit import SetFitModel, Trainer, TrainingArguments

        names = sorted({label for _, label in train})
        model = SetFitModel.from_pretrained(str(encoder), labels=names, device="cpu")
        rows = Dataset.from_dict(
            {"text": [text for text, _ in train], "label": [names.index(label) for _, label in train]}
        )
        options = TrainingArguments(output_dir=str(out / "checkpoints"), save_strategy="no", report_to="none")
        Trainer(model=model, args=options, train_dataset=rows).train()
        model.save_pretrained(str(out / "model"))
        return {"settings": "defaults"}

    @staticmethod
    def open(out: Path) -> Answer:
        import torch
        from setfit import SetFitModel

        torch.set_num_threads(1)
        model = SetFitModel.from_pretrained(str(out / "model"), device="cpu")
        return lambda texts: [str(label) for label in model.predict(texts, show_progress_bar=False)]


class _Optimum:
    """The encoder as Optimum exports it and makes it INT8 (dynamic, for AVX2). It is not trained, so only its time has a meaning."""

    packages = ("optimum-onnx", "transformers", "torch", "onnxruntime")

    @staticmethod
    def train(train: Rows, dev: Rows, encoder: Path, out: Path) -> dict[str, Any]:
        from optimum.exporters.onnx import main_export
        from optimum.onnxruntime import AutoQuantizationConfig, ORTQuantizer
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        layers, tokenizer = int(out.name.split("-")[1]), AutoTokenizer.from_pretrained(encoder)
        model = AutoModelForSequenceClassification.from_pretrained(encoder, num_hidden_layers=layers)
        for part in (model, tokenizer):
            part.save_pretrained(out / "checkpoint")
        main_export(str(out / "checkpoint"), out / "onnx", task="text-classification", framework="pt")
        configuration = AutoQuantizationConfig.avx2(is_static=False, per_channel=True)
        ORTQuantizer.from_pretrained(out / "onnx").quantize(save_dir=out / "model", quantization_config=configuration)
        tokenizer.save_pretrained(out / "model")
        for folder in ("checkpoint", "onnx"):
            shutil.rmtree(out / folder)
        return {"settings": f"{layers} layers, not trained, INT8 with dynamic ranges"}

    @staticmethod
    def open(out: Path) -> Answer:
        import onnxruntime
        from optimum.onnxruntime import ORTModelForSequenceClassification
        from transformers import AutoTokenizer

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        model = ORTModelForSequenceClassification.from_pretrained(
            out / "model", file_name="model_quantized.onnx", session_options=options
        )
        tokenizer = AutoTokenizer.from_pretrained(out / "model")
        names = model.config.id2label

        def answer(texts: list[str]) -> list[str]:
            batch = tokenizer(texts, truncation=True, max_length=128, padding=True, return_tensors="pt")
            return [names[int(one)] for one in model(**batch).logits.argmax(-1)]

        return answer


class _Pocketbert:
    """A bundle of this project, which lies in FOLDER/pocketbert."""

    packages = ("onnxruntime",)

    @staticmethod
    def open(out: Path) -> Answer:
        from pocketbert import Classifier

        model = Classifier.load(out)
        return lambda texts: model.predict(texts).labels


ENGINES: dict[str, Any] = {
    "pocketbert": _Pocketbert,
    "tfidf": _Tfidf,
    "fasttext": _FastText,
    "model2vec": _Model2Vec,
    "setfit": _SetFit,
    "optimum": _Optimum,
}


def train(name: str, folder: Path, labels: str = "", seed: str = "0") -> None:
    """Train an engine; what it made is in FOLDER/NAME."""
    engine, out = ENGINES[name.split("-")[0]], folder / name
    out.mkdir(exist_ok=True)
    rows, dev = read(folder, "train"), read(folder, "dev")
    if labels:  # somebody with few labels has few to choose settings by
        rows, dev = (few(split, int(labels), int(seed)) for split in (rows, dev))
    started = time.process_time()
    made = engine.train(rows, dev, folder / "encoder", out)
    made |= {
        "cpu_s": round(time.process_time() - started, 1),
        "versions": {one: version(one) for one in engine.packages},
    }
    print(json.dumps(made))


def answer(name: str, folder: Path) -> None:
    """Answer `score` with how many test texts get their label, and a list of texts with the milliseconds of CPU time that each took alone."""
    model: Answer = ENGINES[name.split("-")[0]].open(folder / name)
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if asked == "score":
            test = read(folder, "test")
            told: Any = round(accuracy(model, test) * len(test))
        else:
            told = []
            for text in asked:
                started = time.process_time_ns()
                model([text])
                told.append((time.process_time_ns() - started) / 1e6)
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    {"train": train, "answer": answer}[sys.argv[1]](sys.argv[2], Path(sys.argv[3]), *sys.argv[4:])
