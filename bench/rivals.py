"""The cheap rivals of a student: what a user could take in its place. Each is made once, and again when its inputs change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

from compress.data.corpus import Corpus
from compress.data.files import fingerprint, sha256_file
from compress.pipeline.stages import LINEAR, TEACHER, stage_keys
from compress.pipeline.workspace import Maker, Workspace
from compress.recipe import Recipe
from compress.recipe.sections import NoAugmentation, TransferOptions
from compress.runtime.errors import UserError
from export.bundle import GRAPHS

FOLDER = "rivals"  # in the recipe's workspace
# A student of layers learns in minutes from the task's own texts, as one would train it with a distillation library.
_CUT = "student.kind=transformer student.layers={}"


@dataclass(frozen=True)
class Rivals:
    """The files of one task's rivals.

    :param recipe: the task.
    :param corpus: its texts for the student.
    :param workspace: the recipe's artifacts. The teacher must be there for what is made from it.
    :param source: the recipe's file and the settings that were changed on the command line.
    """

    recipe: Recipe
    corpus: Corpus
    workspace: Workspace
    source: tuple[Path, list[str]]

    def linear(self) -> Path:
        """The run's own linear model on n-grams, pickled."""
        key = fingerprint(self._texts_key, version("scikit-learn"))
        return self._made("linear", key, self._make_linear) / "model.pickle"

    def fasttext(self) -> Path:
        """A linear model on the mean of learnt embeddings of hashed n-grams, as fastText has it, as an .npz file."""
        return self._made("fasttext", fingerprint(self._texts_key, self.recipe.seed), self._make_fasttext) / "model.npz"

    def static(self) -> Path:
        """Static token embeddings distilled from the teacher and fine-tuned, with their head, as an .npz file.

        :raises UserError: there is no teacher, or its vocabulary is too large.
        """
        weights = self.workspace.root / "teacher" / "model.safetensors"
        if not weights.exists():
            raise UserError(f"{weights}: no teacher there")
        key = fingerprint(
            self._texts_key, sha256_file(weights), self.recipe.target.max_length, self.recipe.seed, "fine-tuned"
        )
        return self._made("static", key, self._make_static) / "model.npz"

    def frozen(self, *, int8: bool) -> Path:
        """The recipe's encoder as it was before fine-tuning, with a logistic regression as its head, as an .onnx file.

        :raises UserError: the teacher came fine-tuned, or its head cannot be replaced.
        """
        if self.recipe.teacher.fine_tuned:
            raise UserError(
                "teacher.fine_tuned: the recipe's model is fine-tuned already, so there is no frozen encoder"
            )
        key = fingerprint(self._texts_key, TEACHER.key(self.recipe, {}), version("onnxruntime"), GRAPHS)
        return self._made("frozen", key, self._make_frozen) / f"model.{'int8' if int8 else 'fp32'}.onnx"

    def layers(self, number: int) -> Path:
        """The bundle of a transformer with so many layers of the teacher, distilled on the task's own texts.

        :raises UserError: the teacher is not this recipe's, or the student cannot be made.
        """
        from bench.front.candidates import make_candidates
        from bench.front.make import make_students

        if not self.workspace.is_current(TEACHER.name, stage_keys(self.recipe)[TEACHER.name]):
            raise UserError(
                f"{self.workspace.root / 'teacher'}: not this recipe's teacher; run `pocketbert compress` first"
            )
        (candidate,) = make_candidates(*self.source, [_CUT.format(number)])
        alone = {"augmentation": NoAugmentation(), "transfer": TransferOptions()}
        recipe = candidate.recipe.model_copy(update=alone)
        candidate = replace(candidate, settings=(*candidate.settings, "own texts"), recipe=recipe)
        return make_students([candidate], self.workspace)[0].bundle.directory

    @cached_property
    def _texts_key(self) -> str:
        return LINEAR.key(self.recipe, {})

    def _made(self, name: str, key: str, make: Callable[[Path], None]) -> Path:
        maker: Maker = lambda directory, _: make(directory)  # noqa: E731
        return Workspace(self.workspace.root / FOLDER).run(name, key, maker)

    def _make_linear(self, directory: Path) -> None:
        import pickle

        from compress.baselines.linear import fit_linear

        (directory / "model.pickle").write_bytes(pickle.dumps(fit_linear(self.corpus)[0]))

    def _make_fasttext(self, directory: Path) -> None:
        from compress.baselines.fasttext import fit_fasttext

        fit_fasttext(self.corpus, self.recipe.seed).save(directory / "model.npz")

    def _make_static(self, directory: Path) -> None:
        from compress.baselines.static import fit_static
        from compress.teachers.finetune import open_teacher

        teacher, encoder = open_teacher(self.workspace.root / "teacher", self.recipe.target.max_length)
        fit_static(self.corpus, teacher, encoder, self.recipe.seed).save(directory / "model.npz")

    def _make_frozen(self, directory: Path) -> None:
        from compress.teachers.finetune import make_frozen
        from export.int8 import export_int8
        from export.onnx import export_onnx
        from export.quantize import FLOAT_EMBEDDINGS

        checkpoint, pair, max_length = directory / "checkpoint", self.corpus.pair, self.recipe.target.max_length
        make_frozen(self.recipe, self.corpus, checkpoint)
        export_onnx(checkpoint, directory / "model.fp32.onnx", pair=pair, max_length=max_length)
        export_int8(checkpoint, directory / "model.int8.onnx", FLOAT_EMBEDDINGS, pair=pair, max_length=max_length)
