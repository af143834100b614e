"""The uncompressed BERT: a checkpoint, its ONNX export and its INT8 form. They are made once and kept in the user's cache."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.environment import cpu_flags
from compress import __version__
from compress.console import console
from compress.data.assets import cache_directory
from compress.data.files import fingerprint
from compress.data.hub import is_local, pretrained_arguments
from compress.runtime.encode import TextEncoder
from compress.runtime.errors import UserError
from export.bundle import GRAPHS, TOKENIZER

OPTIMUM_EXPORT = Path(__file__).parent / "optimum_export.py"
OPTIMUM_CURE = "`make optimum` makes an environment for it: --optimum .venv-optimum/bin/python"
MODEL_CURE = (
    "give a directory with a config.json, or an id of the Hugging Face hub such as google-bert/bert-base-uncased"
)
_MAKERS = ("torch", "transformers", "onnx", "onnxruntime")


@dataclass(frozen=True)
class BaselineOptions:
    """Which BERT the other engines are compared with. By default: BERT-base with random weights; this needs no network."""

    # A hub id or a directory with weights. The head is untrained, unless a directory holds a classifier of the task's labels.
    model: str | None = None
    config: Path | None = None  # config.json of a BERT of another size; the weights are random
    optimum: Path | None = None  # the interpreter of an environment with optimum-onnx, whose export is compared too


class Baseline:
    """The files of one BERT classifier. Each is made when it is first needed.

    :param tokenizer_file: of the teacher. The vocabulary has all ids of it; a fine-tuned classifier has a tokenizer of its own.
    :param labels: the task's labels, in the order of the logits.
    :raises UserError: the config or the model cannot be used.
    """

    def __init__(self, options: BaselineOptions, tokenizer_file: Path, labels: list[str]) -> None:
        self._options = options
        self._fine_tuned = _fine_tuned(options.model, labels)
        self.tokenizer = tokenizer_file if self._fine_tuned is None else self._fine_tuned / TOKENIZER
        self._config = _load_config(options, _vocabulary(self.tokenizer), len(labels))
        key = fingerprint(
            {name: value for name, value in self._config.to_dict().items() if not name.startswith("_")},
            {package: version(package) for package in _MAKERS},
            __version__,
            GRAPHS,
            options.model,
            [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in _weights(options.model)],
            getattr(self._config, "_commit_hash", None),
        )
        self._directory = cache_directory() / "bench" / f"bert-{key[:16]}"

    @property
    def title(self) -> str:
        """`BERT-base`, or `MPNet-base`; a model of another size by its layers and width."""
        layers, width = self._config.num_hidden_layers, self._config.hidden_size
        family = type(self._config).__name__.removesuffix("Config").replace("Bert", "BERT")
        return f"{family}-base" if (layers, width) == (12, 768) else f"{family} {layers}×{width}"

    @property
    def scored(self) -> bool:
        """It was trained for the task, so its accuracy has a meaning."""
        return self._fine_tuned is not None

    @property
    def note(self) -> str:
        """Why no accuracy is shown for it."""
        if self.scored:
            return ""
        return "untrained head: time only" if self._options.model else "random weights: time only"

    @property
    def max_length(self) -> int:
        """Number of its position embeddings: the longest text in tokens."""
        return int(self._config.max_position_embeddings)

    @property
    def pad_token_id(self) -> int:
        """The id of the padding."""
        return int(self._config.pad_token_id or 0)

    def checkpoint(self) -> Path:
        """A directory for `from_pretrained`."""
        return self._fine_tuned or self._made("checkpoint", self._make_checkpoint)

    def onnx(self) -> Path:
        """The checkpoint as an fp32 .onnx file, written as a student's is."""
        return self._made("model.onnx", self._make_onnx)

    def int8(self) -> Path:
        """The .onnx file in INT8, quantised as a transformer student is."""
        return self._made("model.int8.onnx", self._make_int8)

    def optimum(self, *, int8: bool) -> Path:
        """The checkpoint as Optimum exports it, and quantises it for this CPU if `int8`.

        :raises UserError: the interpreter of `BaselineOptions.optimum` has no Optimum, or the export fails.
        """
        makers = fingerprint(self.optimum_versions)[:8]
        instructions = [_optimum_instructions()] if int8 else []
        name = "-".join(["model.optimum", makers, *instructions])
        return self._made(f"{name}.onnx", lambda target: self._make_optimum(target, instructions))

    @cached_property
    def optimum_versions(self) -> dict[str, str]:
        """The versions of optimum-onnx and of what it exports with.

        :raises UserError: as `optimum`.
        """
        versions: dict[str, str] = json.loads(self._run_optimum())
        return versions

    def _made(self, name: str, make: Callable[[Path], None]) -> Path:
        target = self._directory / name
        if target.exists():
            return target
        console.print(f"making {self.title} {name} (once, in {self._directory})")
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            cure = "set POCKETBERT_CACHE to a writable directory"
            raise UserError(f"{self._directory}: cannot be made ({error.strerror}); {cure}") from None
        with tempfile.TemporaryDirectory(dir=self._directory, prefix=".") as temporary:
            made = Path(temporary) / name
            make(made)
            try:
                os.replace(made, target)
            except OSError:  # another run has made the same directory in the meantime
                if not target.exists():
                    raise
        return target

    def _make_checkpoint(self, target: Path) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification

        with _quiet():
            torch.manual_seed(0)
            if self._options.model is None:
                model = AutoModelForSequenceClassification.from_config(self._config)
                for vector in (p for p in model.parameters() if p.dim() == 1):
                    # The exporter stores equal tensors once. New biases are equal, so the file would be too small.
                    torch.nn.init.normal_(vector.data, mean=float(vector.data[0]), std=self._config.initializer_range)
            else:
                try:
                    named = pretrained_arguments(self._options.model, None, "--bert-base")
                    model = AutoModelForSequenceClassification.from_pretrained(
                        **named, config=self._config, dtype=torch.float32
                    )
                except (OSError, ValueError, RuntimeError) as error:
                    raise _unusable(self._options.model, error) from None
            model.save_pretrained(target)

    def _make_onnx(self, target: Path) -> None:
        from export.onnx import export_onnx

        checkpoint = self.checkpoint()
        with _quiet():
            # One file serves single texts and pairs: of a single text, all token types are 0.
            export_onnx(checkpoint, target, pair=True, max_length=self.max_length)

    def _make_int8(self, target: Path) -> None:
        from export.int8 import export_int8
        from export.quantize import cpu_schemes

        checkpoint = self.checkpoint()
        with _quiet():
            scheme = cpu_schemes(self._config.model_type)[0]
            export_int8(checkpoint, target, scheme, pair=True, max_length=self.max_length)

    def _make_optimum(self, target: Path, instructions: list[str]) -> None:
        self._run_optimum(str(self.checkpoint()), str(target), *instructions)

    def _run_optimum(self, *arguments: str) -> str:
        """What `optimum_export.py` prints. It runs in the environment of `BaselineOptions.optimum`."""
        python = self._options.optimum
        assert python is not None
        command = [
            str(python),
            "-I",
            str(OPTIMUM_EXPORT),
            *arguments,
        ]  # isolated: it imports nothing from PYTHONPATH or here
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except OSError as error:
            raise UserError(f"--optimum {python}: cannot be run ({error.strerror}); {OPTIMUM_CURE}") from None
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
            raise UserError(f"--optimum {python}: {reason}; {OPTIMUM_CURE}")
        return done.stdout


def _fine_tuned(model: str | None, labels: list[str]) -> Path | None:
    """The directory of a classifier that was trained for these labels; None if the head has to be made."""
    if model is None or not (config := Path(model) / "config.json").is_file():
        return None
    try:
        own = json.loads(config.read_text(encoding="utf-8")).get("id2label", {})
    except (OSError, ValueError):
        return None  # `_load_config` says what is wrong
    return Path(model) if list(own.values()) == labels and (Path(model) / TOKENIZER).is_file() else None


def _weights(model: str | None) -> list[Path]:
    """The files of weights in a directory."""
    return [] if model is None else sorted(Path(model).glob("*.safetensors"))


def _optimum_instructions() -> str:
    """Optimum's name for the instructions of this CPU."""
    flags = cpu_flags()
    if "asimd" in flags:
        return "arm64"
    return "avx512_vnni" if "avx512_vnni" in flags else "avx2"


def _load_config(options: BaselineOptions, vocabulary: int, labels: int) -> Any:
    from transformers import AutoConfig, BertConfig

    if options.model is not None:
        _check_directory(options.model)
        try:
            with _quiet():
                named = pretrained_arguments(options.model, None, "--bert-base")
                config = AutoConfig.from_pretrained(**named, num_labels=labels)
        except (OSError, ValueError) as error:
            raise _unusable(options.model, error) from None
        if config.vocab_size < vocabulary:
            raise UserError(
                f"--bert-base {options.model}: its vocabulary of {config.vocab_size} is smaller than "
                f"the teacher tokenizer's {vocabulary}; choose a BERT with the teacher's vocabulary"
            )
        return config
    try:
        settings = json.loads(options.config.read_text(encoding="utf-8")) if options.config else {}
        return BertConfig(**{**settings, "vocab_size": vocabulary, "num_labels": labels})
    except (OSError, ValueError, TypeError) as error:
        place = f"--bert-config {options.config}"
        raise UserError(f"{place}: not the config.json of a BERT ({_first_line(error)})") from None


def _check_directory(model: str) -> None:
    """See that a model that no hub has is in its directory. transformers would ask a hub for the path, and complain of its letters."""
    directory = Path(model)
    if not is_local(model) or (directory / "config.json").is_file():
        return
    missing = "has no config.json" if directory.is_dir() else "no such directory"
    raise UserError(f"--bert-base {model}: {missing}; {MODEL_CURE}")


def _unusable(model: str, error: Exception) -> UserError:
    return UserError(f"--bert-base {model}: cannot be loaded ({_first_line(error)}); {MODEL_CURE}")


def _vocabulary(tokenizer_file: Path) -> int:
    """One more than the largest token id."""
    return max(TextEncoder(tokenizer_file, max_length=8).tokenizer.get_vocab().values()) + 1


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the warnings of loading, exporting and quantising. They say that the head is untrained, which is intended here."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
