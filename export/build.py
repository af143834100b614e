"""From a student to a bundle: fp32 ONNX, INT8 that passes the gate, a TensorRT engine on request, and the manifest."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnxruntime

from compress import __version__
from compress.console import console
from compress.data.corpus import Corpus
from compress.data.domains import student_corpus
from compress.data.files import write_json
from compress.pipeline.run import run_stage
from compress.pipeline.stage import Stage, StageContext, TaskTexts, Texts
from compress.pipeline.stages import STUDENT, TEACHER, stage_keys
from compress.pipeline.stages.student_inputs import latency_settings
from compress.pipeline.workspace import Workspace
from compress.recipe import Recipe
from compress.recipe.sections import BudgetOptions
from compress.runtime.encode import Encoded, TextEncoder
from compress.runtime.errors import UserError
from compress.runtime.wordpiece import nanotoken_version
from export.bundle import GRAPHS, MANIFEST, TOKENIZER, Bundle, file_entry
from export.calibration import calibrate
from export.constraints import CURES, TIMING_TOLERANCE, DevResult, unmet_constraints
from export.facts import teacher_accuracy
from export.gate import Gate, GateResult
from export.golden import GOLDEN, teacher_examples
from export.manifest import ENGINE_GRAPH, FORMAT, Cascade, Manifest, ModelEntry, SeenTokens, named_files
from export.measure import file_latency, mean_latency
from export.record import golden_examples, measured, provenance, read_card, versions
from export.reference import dev_answers, seen_tokens
from export.session import FloatArray, softmax, teacher_session
from export.tensorrt import build_engine, engine_note, shape_profile
from export.tokenizer_check import all_texts, check_tokenizer

if TYPE_CHECKING:
    from export.quantize import Scheme

Target = Literal["cpu", "tensorrt"]


def bundle_stage(target: Target, *, refuse: bool = True) -> Stage:
    """The stage after the student's: its checked bundle. See `build_bundle` for `refuse`."""
    return Stage(
        "bundle",
        lambda context: make_bundle(context, target, refuse=refuse),
        settings=lambda recipe: (
            *("seed", "export", "cascade", "target.max_length", "domains.student"),
            *(("bench.threads", "bench.texts") if recipe.cascade.wanted else ()),
            *(("budget", *latency_settings(recipe)) if refuse else ()),
        ),
        texts=lambda recipe: (Texts.LABELLED,),
        after=(TEACHER.name, STUDENT.name),
        versions=(
            *(target, onnxruntime.__version__, str(FORMAT), str(GRAPHS), nanotoken_version() or "no nanotoken"),
            *([] if refuse else ["not refused"]),
        ),
        shared=False,
    )


def build_bundle(
    recipe: Recipe, workspace: Workspace, target: Target, *, force: bool = False, refuse: bool = True
) -> Bundle:
    """Export the recipe's finished student, unless its bundle is up to date.

    :param refuse: make no bundle of a student that the recipe does not want. If false, the budget plays no part, and it is only
        said if the student is below the linear model.
    :raises UserError: the recipe has no finished student, an ONNX graph differs too much from PyTorch, TensorRT is
        missing or refuses the graph, or the student is refused: it is clearly below the linear model, or does not meet `budget`.
    """
    keys = stage_keys(recipe)
    if not workspace.is_current(STUDENT.name, keys[STUDENT.name]):
        raise UserError(
            f"{workspace.root / STUDENT.name}: no finished student of this recipe; run `pocketbert compress` with it and the same --set first"
        )
    stage = bundle_stage(target, refuse=refuse)
    return Bundle(run_stage(stage, recipe, workspace, stage.key(recipe, keys), TaskTexts(recipe), force=force))


def make_bundle(context: StageContext, target: Target, *, refuse: bool = True) -> None:
    """Export the student and write its bundle."""
    corpus = student_corpus(context.recipe, context.corpus)
    student, teacher = context.result(STUDENT.name), context.result(TEACHER.name)
    export = StudentExport(context.recipe, corpus, student, context.directory, context.scratch, teacher)
    export.run(target, context.name, refuse=refuse)


class StudentExport:
    """The export of one student.

    :param corpus: the texts that the student is for.
    :param student: the directory with the student's checkpoint, tokenizer, `config.json` and `card.json`.
    :param directory: the empty directory that `run` fills with the files of a bundle.
    :param scratch: a directory for intermediate files.
    :param teacher: the directory of the finished teacher; only a recipe with a cascade needs it.
    """

    def __init__(
        self,
        recipe: Recipe,
        corpus: Corpus,
        student: Path,
        directory: Path,
        scratch: Path,
        teacher: Path | None = None,
    ) -> None:
        self._teacher = teacher
        self._recipe, self._student, self._directory, self._scratch = recipe, student, directory, scratch
        self._corpus = corpus
        config = json.loads((student / "config.json").read_text())
        self._model_type: str = config["model_type"]
        self._pad_token_id: int = config["pad_token_id"] or 0
        tokenizer, max_length = student / TOKENIZER, recipe.target.max_length
        self._fast_tokenizer = check_tokenizer(tokenizer, max_length, all_texts(corpus))
        fast = self._fast_tokenizer
        self._encoder = TextEncoder(tokenizer, max_length, nanotoken=fast.version if fast else None)
        self._calibration = _calibration_texts(recipe, self._corpus, self._encoder)
        self._gate = Gate(self._corpus, self._encoder, self._pad_token_id, recipe.export)
        self._models: dict[str, ModelEntry] = {}
        self._dev_logits: dict[str, FloatArray] = {}

    def run(self, target: Target, name: str, *, refuse: bool) -> None:
        """Write the models that the recipe and the target ask for, then the manifest.

        The default model is INT8 if it passes the gate, else fp32. fp32 stays in the bundle if it is the default, even if
        the recipe does not list it.

        :raises UserError: see `build_bundle`.
        """
        precisions = self._recipe.export.precisions
        shutil.copyfile(self._student / TOKENIZER, self._directory / TOKENIZER)
        fp32 = self._add_fp32()
        default = "fp32"
        if "int8" in precisions:
            self._add_int8()
            default = "int8" if self._models["int8"].passed else "fp32"
        if "fp16" in precisions:
            self._add_fp16(fp32)
        if target == "tensorrt":
            self._add_tensorrt(fp32)
        if "fp32" not in precisions and default != "fp32":
            del self._models["fp32"]
            fp32.unlink()
        self._check_result(default, refuse)
        self._write_manifest(default, name, self._make_cascade() if self._recipe.cascade.wanted else None)

    def _check_result(self, default: str, refuse: bool) -> None:
        """Refuse a student that is clearly below a linear model, or does not meet the recipe's budget. See `build_bundle`.

        :raises UserError: it is refused.
        """
        budget = self._recipe.budget if refuse else BudgetOptions()
        result = self._dev_result(default, timed=budget.target_latency_ms is not None)
        if result.below_linear:
            message = f"the student has {result.shown} on dev, a linear model on n-grams {result.linear:.2%}"
            if refuse and self._recipe.export.below_linear == "refuse":
                raise UserError(
                    f"{message}: it is not worth its BERT, and no bundle is made; give it more texts (transfer.texts, "
                    'data.unlabelled) or a longer training (compress.steps), or set export.below_linear = "warn"'
                )
            console.print(f"  [bold yellow]{message}[/]")
        if unmet := unmet_constraints(budget, result, TIMING_TOLERANCE):
            raise UserError(
                f"the student ({default}) does not meet the budget, and no bundle is made: {'; '.join(unmet.values())}. What may help: "
                f"{'; '.join(CURES[setting] for setting in unmet)}. `pocketbert front` compares students of several kinds"
            )

    def _dev_result(self, default: str, *, timed: bool) -> DevResult:
        card, model = read_card(self._student), self._models[default]
        file = self._directory / model.file
        assert model.dev_accuracy is not None, "the default model was evaluated"
        ms = file_latency(file, self._recipe, self._corpus, self._encoder, self._pad_token_id) if timed else None
        return DevResult(
            accuracy=model.dev_accuracy,
            teacher=teacher_accuracy(card)["dev"],
            linear=card["linear"]["accuracy"]["dev"],
            texts=len(self._corpus.splits["dev"]),
            file_bytes=file.stat().st_size,
            latency_ms=ms,
        )

    def _add_fp32(self) -> Path:
        from export.onnx import export_onnx

        file = self._directory / "model.fp32.onnx"
        max_length = self._recipe.target.max_length
        difference = export_onnx(self._student, file, pair=self._corpus.pair, max_length=max_length)
        note = f"fp32, logits within {difference:.1e} of PyTorch's"
        result = self._gate.evaluate(file)
        self._add("fp32", ModelEntry(file=file.name, runtime="onnxruntime", note=note, **measured(result)), result)
        return file

    def _add_int8(self) -> None:
        from export.onnx import export_onnx
        from export.quantize import cpu_schemes

        source, max_length = self._scratch / "for_int8.onnx", self._recipe.target.max_length
        export_onnx(self._student, source, pair=self._corpus.pair, max_length=max_length, for_int8=True)
        self._add_quantized("int8", source, self._directory / "model.int8.onnx", cpu_schemes(self._model_type))
        if not self._models["int8"].passed:
            console.print(
                "  [bold red]int8 fails the gate however it is quantised; the bundle's default is fp32[/]; "
                "train the student with quantisation: --set compress.quantization_epochs=2"
            )

    def _add_fp16(self, fp32: Path) -> None:
        from export.half import NOTE, to_fp16

        file = self._directory / "model.fp16.onnx"
        to_fp16(fp32, file)
        result = self._gate.evaluate(file)
        self._add("fp16", ModelEntry(file=file.name, runtime="onnxruntime", note=NOTE, **measured(result)), result)
        if not result.passed:
            console.print(
                f"  [bold red]fp16 fails the gate; on a GPU the bundle answers in fp32[/]; wanted: {self._gate.wanted}"
            )

    def _add_quantized(self, name: str, fp32: Path, file: Path, schemes: Sequence[Scheme]) -> None:
        """Write the quantised graph that passes the gate, or the one that comes closest to it."""
        from export.accuracy_control import AccuracyControl

        control = AccuracyControl(name, fp32, self._gate, self._calibration, self._pad_token_id, self._scratch)
        found = control.run(schemes)
        shutil.copyfile(found.file, file)
        how: dict[str, Any] = {name: getattr(found, name) for name in ("float_layers", "attempts", "sensitivity")}
        entry = ModelEntry(file=file.name, runtime="onnxruntime", note=found.note, **how, **measured(found.result))
        self._add(name, entry, found.result)

    def _add_tensorrt(self, fp32: Path) -> None:
        """Write the Q/DQ graph and the engine. The accuracy of the graph is measured with ONNX Runtime; the engine is not run."""
        from export.quantize import TENSORRT_SCHEME

        graph, engine_file = self._directory / "model.tensorrt.onnx", self._directory / "model.tensorrt.engine"
        self._add_quantized(ENGINE_GRAPH, fp32, graph, [TENSORRT_SCHEME])
        shapes = shape_profile([len(text) for text in self._calibration], self._recipe.target.max_length)
        engine = build_engine(graph, engine_file, shapes, self._recipe.export.compute_capability)
        note = engine_note(engine)
        entry = ModelEntry(file=engine_file.name, runtime="tensorrt", engine=engine, note=note, **measured(None))
        # The engine computes what its graph does, so its scores become probabilities in the same way.
        graph_entry = self._models[ENGINE_GRAPH]
        same = {name: getattr(graph_entry, name) for name in ("calibration", "dev_answers")}
        self._add("tensorrt", entry.model_copy(update=same), None)

    def _make_cascade(self) -> Cascade:
        from export.cascade import StudentModel, make_cascade

        assert self._teacher is not None, "a recipe with a cascade has a teacher"
        students = {
            name: StudentModel(self._dev_logits[name], model.temperature, self._mean_ms(self._directory / model.file))
            for name, model in self._models.items()
            if name in self._dev_logits
        }
        return make_cascade(self._recipe, self._corpus, self._teacher, students, self._directory, self._scratch)

    def _mean_ms(self, file: Path) -> float:
        return mean_latency(file, self._recipe, self._corpus, self._encoder, self._pad_token_id)

    def _add(self, name: str, entry: ModelEntry, result: GateResult | None) -> None:
        if result is not None:
            scores, dev = calibrate(result.logits, self._gate.labels), result.logits["dev"]
            answers = dev_answers(softmax(dev / np.float32(scores.temperature)), self._corpus.labels)
            entry = entry.model_copy(update={"calibration": scores, "dev_answers": answers})
            self._dev_logits[name] = dev
        self._models[name] = entry
        size = (self._directory / entry.file).stat().st_size
        console.print(f"  {name}: {size / 1e6:.1f} MB, {result or 'accuracy not measured'} ({entry.note})")

    def _write_manifest(self, default: str, name: str, cascade: Cascade | None) -> None:
        golden = self._write_golden(cascade)
        manifest = Manifest(
            format=FORMAT,
            name=name,
            version=__version__,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            labels=self._corpus.labels,
            max_length=self._recipe.target.max_length,
            pair=self._corpus.pair,
            pad_token_id=self._pad_token_id,
            default=default,
            models=self._models,
            files={},
            provenance=provenance(self._student),
            golden=golden,
            seen_tokens=self._seen_tokens(),
            versions=versions(),
            fast_tokenizer=self._fast_tokenizer,
            cascade=cascade,
        )
        names = [TOKENIZER, *sorted(named_files(manifest) - {TOKENIZER})]
        files = {name: file_entry(self._directory / name) for name in names}
        write_json(self._directory / MANIFEST, manifest.model_copy(update={"files": files}).model_dump(mode="json"))

    def _seen_tokens(self) -> SeenTokens:
        train, dev = (self._corpus.splits[name] for name in ("train", "dev"))
        return seen_tokens(self._encoder, (train.texts, train.texts_b), (dev.texts, dev.texts_b), self._recipe.seed)

    def _write_golden(self, cascade: Cascade | None) -> str | None:
        """Write the golden examples, if the recipe wants some; the name of their file."""
        files = {n: self._directory / m.file for n, m in self._models.items() if m.runtime == "onnxruntime"}
        golden = golden_examples(self._recipe, self._corpus, self._encoder, files, self._pad_token_id)
        if golden is None:
            return None
        if cascade is not None:
            teacher = teacher_session(self._directory, cascade, self._recipe.target.max_length)
            golden = golden.model_copy(update={"teacher": teacher_examples(teacher, golden)})
        write_json(self._directory / GOLDEN, golden.model_dump(mode="json"))
        return GOLDEN


def _calibration_texts(recipe: Recipe, corpus: Corpus, encoder: TextEncoder) -> list[Encoded]:
    """`export.calibration_texts` texts of the training split, drawn with the recipe's seed."""
    train = corpus.splits["train"]
    count = min(len(train), recipe.export.calibration_texts)
    rows = random.Random(recipe.seed).sample(range(len(train)), count)
    texts_b = [train.texts_b[i] for i in rows] if train.texts_b else None
    return encoder.encode([train.texts[i] for i in rows], texts_b)
