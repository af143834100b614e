"""Student → bundle: fp32 ONNX, INT8 that passes the gate, optionally a TensorRT engine, and the manifest."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import onnxruntime

from compress import __version__
from compress.console import console
from compress.data.corpus import Corpus
from compress.data.domains import load_student_corpus
from compress.data.files import fingerprint, write_json
from compress.pipeline.stages import stage_keys
from compress.pipeline.workspace import Workspace
from compress.recipe import Recipe
from compress.runtime.encode import Encoded, TextEncoder
from compress.runtime.errors import UserError
from export.bundle import FORMAT, MANIFEST, TOKENIZER, Bundle, Engine, Manifest, ModelEntry, file_entry
from export.gate import Gate, Verdict

Target = Literal["cpu", "tensorrt"]


def build_bundle(recipe: Recipe, workspace: Workspace, target: Target, *, force: bool = False) -> Bundle:
    """Export the recipe's finished student unless its bundle is up to date.

    :raises UserError: no finished student of this recipe; a graph that fails parity; TensorRT missing or refusing.
    """
    student_key = stage_keys(recipe)["student"]
    if not workspace.is_current("student", student_key):
        raise UserError(
            f"{workspace.root / 'student'}: no finished student of this recipe; run `python -m compress run` with it first"
        )
    key = fingerprint(student_key, recipe.export.model_dump(mode="json"), target, onnxruntime.__version__, FORMAT)
    directory = workspace.run(
        "bundle", key, lambda d, scratch: _Export(recipe, workspace, d, scratch).run(target), force=force
    )
    return Bundle(directory)


@dataclass
class _Export:
    recipe: Recipe
    workspace: Workspace
    directory: Path
    scratch: Path
    models: dict[str, ModelEntry] = field(default_factory=dict)

    def run(self, target: Target) -> None:
        student = self.workspace.root / "student"
        corpus = load_student_corpus(self.recipe)
        shutil.copyfile(student / TOKENIZER, self.directory / TOKENIZER)
        encoder = TextEncoder(self.directory / TOKENIZER, self.recipe.target.max_length)
        config = json.loads((student / "config.json").read_text())
        pad = config["pad_token_id"] or 0
        gate = Gate(corpus, encoder, pad, self.recipe.export.budget)
        texts = self._calibration_texts(corpus, encoder)
        fp32 = self._fp32(student, gate)
        default = "fp32"
        if "int8" in self.recipe.export.precisions:
            self._int8(fp32, gate, texts, pad, config["model_type"])
            default = "int8" if self.models["int8"].passed else "fp32"
        if target == "tensorrt":
            self._tensorrt(fp32, gate, texts, pad)
        if "fp32" not in self.recipe.export.precisions and default != "fp32":
            del self.models["fp32"]
            fp32.unlink()
        self._manifest(corpus, default, pad, student)

    def _fp32(self, student: Path, gate: Gate) -> Path:
        from export.onnx import export_onnx

        file = self.directory / "model.fp32.onnx"
        difference = export_onnx(student, file, pair=gate.corpus.pair, max_length=self.recipe.target.max_length)
        self._record("fp32", file, gate.judge(file), f"fp32, logits within {difference:.1e} of PyTorch's")
        return file

    def _int8(self, fp32: Path, gate: Gate, texts: list[Encoded], pad: int, model_type: str) -> None:
        """Try the schemes in order; the first that passes is kept, or else the one that loses least."""
        from export.quantize import cpu_schemes, quantize

        tried: list[str] = []
        best: tuple[float, Path, Verdict, str] | None = None
        for number, scheme in enumerate(cpu_schemes(model_type)):
            file = self.scratch / f"int8.{number}.onnx"
            quantize(fp32, file, scheme, texts, pad)
            verdict = gate.judge(file)
            if best is None or verdict.drop < best[0]:
                best = (verdict.drop, file, verdict, scheme.note)
            if verdict.passed:
                break
            tried.append(f"{scheme.note}: lost {verdict.drop:.2f} points")
            console.print(
                f"  [yellow]int8: {tried[-1]}, over the budget of {self.recipe.export.budget}; trying another way[/]"
            )
        assert best is not None
        _, file, verdict, note = best
        shutil.copyfile(file, self.directory / "model.int8.onnx")
        self._record("int8", self.directory / "model.int8.onnx", verdict, "; ".join([note, *tried]))
        if not verdict.passed:
            console.print(
                "  [bold red]int8 fails the gate in every form; the bundle's default is fp32[/]; "
                "let the student get used to it: --set compress.quantization_epochs=2"
            )

    def _tensorrt(self, fp32: Path, gate: Gate, texts: list[Encoded], pad: int) -> None:
        """Q/DQ graph and engine. The graph's accuracy is ONNX Runtime's; the engine itself is not run."""
        from export.quantize import TENSORRT_SCHEME, quantize
        from export.tensorrt import build_engine

        graph, engine_file = self.directory / "model.tensorrt.onnx", self.directory / "model.tensorrt.engine"
        quantize(fp32, graph, TENSORRT_SCHEME, texts, pad)
        verdict = gate.judge(graph)
        engine = build_engine(graph, engine_file, self.recipe.target.max_length, self.recipe.export.compute_capability)
        self._record("tensorrt-qdq", graph, verdict, TENSORRT_SCHEME.note)
        note = f"{engine.package} {engine.version} for compute capability {engine.compute_capability}; not run where it was built"
        self._record("tensorrt", engine_file, None, note, engine)

    def _record(self, name: str, file: Path, verdict: Verdict | None, note: str, engine: Engine | None = None) -> None:
        self.models[name] = ModelEntry(
            file=file.name,
            runtime="onnxruntime" if engine is None else "tensorrt",
            engine=engine,
            dev_accuracy=verdict.dev if verdict else None,
            test_accuracy=verdict.test if verdict else None,
            drop=verdict.drop if verdict else None,
            passed=verdict.passed if verdict else None,
            note=note,
        )
        console.print(f"  {name}: {file.stat().st_size / 1e6:.1f} MB, {verdict or 'accuracy not measured'} ({note})")

    def _calibration_texts(self, corpus: Corpus, encoder: TextEncoder) -> list[Encoded]:
        train = corpus.splits["train"]
        rows = random.Random(self.recipe.seed).sample(
            range(len(train)), min(len(train), self.recipe.export.calibration_texts)
        )
        texts_b = [train.texts_b[i] for i in rows] if train.texts_b else None
        return encoder.encode([train.texts[i] for i in rows], texts_b)

    def _manifest(self, corpus: Corpus, default: str, pad: int, student: Path) -> None:
        names = [TOKENIZER, *(model.file for model in self.models.values())]
        manifest = Manifest(
            format=FORMAT,
            name=self.recipe.name,
            version=__version__,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            labels=corpus.labels,
            max_length=self.recipe.target.max_length,
            pair=corpus.pair,
            pad_token_id=pad,
            default=default,
            models=self.models,
            files={name: file_entry(self.directory / name) for name in names},
            provenance=_provenance(student),
        )
        write_json(self.directory / MANIFEST, manifest.model_dump(mode="json"))


def _provenance(student: Path) -> dict[str, Any]:
    """The student's card without its training history."""
    card = json.loads((student / "card.json").read_text(encoding="utf-8"))
    del card["history"]
    return card
