"""The stages of compression in order: teacher → teacher_outputs → search → student."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress import __version__
from compress.corpus import Corpus, data_key, load_corpus
from compress.recipe import Recipe
from compress.stages import Workspace, fingerprint, write_json

if TYPE_CHECKING:
    from compress.batches import EncodedSplit
    from compress.encode import TextEncoder
    from compress.search.adabert import StudentTask

STAGES = ("teacher", "teacher_outputs", "search", "student")


def stage_keys(recipe: Recipe) -> dict[str, str]:
    """What each stage is made from, each key including those of the stages before it. Imports no torch."""
    options = recipe.compress.model_dump(mode="json")
    # What only the final training uses does not outdate the search.
    final = {name: options.pop(name) for name in ("epochs", "patience", "average")}
    spans = options.pop("spans")
    keys = {"data": fingerprint(__version__, data_key(recipe.data))}
    keys["teacher"] = fingerprint(
        keys["data"], recipe.teacher.model_dump(mode="json"), recipe.seed, _directory_state(recipe.teacher.model)
    )
    keys["teacher_outputs"] = fingerprint(keys["teacher"], recipe.seed, spans)
    keys["search"] = fingerprint(keys["teacher_outputs"], options)
    keys["student"] = fingerprint(keys["search"], final)
    return keys


def compress(recipe: Recipe, workspace: Workspace, *, force: bool = False) -> Path:
    """Run the stages that are not up to date; returns the student's directory.

    :param force: make every stage anew.
    """
    keys = stage_keys(recipe)
    run = _Run(recipe, workspace)
    makers = {
        "teacher": run.teacher,
        "teacher_outputs": run.teacher_outputs,
        "search": run.search,
        "student": run.student,
    }
    for stage in STAGES:
        workspace.run(stage, keys[stage], makers[stage], force=force)
    return workspace.root / "student"


@dataclass
class _Run:
    """The stages' work; the corpus is read and torch imported when the first stage needs them."""

    recipe: Recipe
    workspace: Workspace
    _corpus: Corpus | None = None

    @property
    def corpus(self) -> Corpus:
        if self._corpus is None:
            self._corpus = load_corpus(self.recipe.data)
        return self._corpus

    def teacher(self, directory: Path) -> None:
        corpus = self.corpus  # before torch is imported: a mistake in the data shows at once
        from compress.teachers.finetune import make_teacher

        make_teacher(self.recipe, corpus, directory, self.workspace.scratch("teacher"))

    def teacher_outputs(self, directory: Path) -> None:
        from compress.encode import TextEncoder
        from compress.teachers.probes import make_teacher_outputs

        teacher = self.workspace.root / "teacher"
        encoder = TextEncoder(teacher / "tokenizer.json", self.recipe.data.max_length)
        make_teacher_outputs(teacher, self._student_texts(encoder), self.recipe.data.max_length, directory)

    def search(self, directory: Path) -> None:
        from compress.search.adabert import search_architecture

        search_architecture(self._student_task(), directory, self.workspace.scratch("search"))

    def student(self, directory: Path) -> None:
        from compress.search.adabert import train_student
        from compress.teachers.finetune import save_tokenizer_copy, teacher_card

        history = train_student(
            self._student_task(), self.workspace.root / "search", directory, self.workspace.scratch("student")
        )
        save_tokenizer_copy(self.workspace.root / "teacher", directory)
        card: dict[str, Any] = {
            "recipe": self.recipe.dump(),
            "data": data_key(self.recipe.data),
            "sizes": {name: len(split) for name, split in self.corpus.splits.items()},
            "labels": self.corpus.labels,
            "pair": self.corpus.pair,
            "report_split": self.corpus.report_split,
            "teacher": teacher_card(self.workspace.root / "teacher"),
            "genotype": json.loads((self.workspace.root / "search" / "genotype.json").read_text())["genotype"],
            "seed": self.recipe.seed,
            "version": __version__,
            "history": history,
        }
        write_json(directory / "card.json", card)

    def _student_task(self) -> StudentTask:
        import torch

        from compress.batches import encode_split
        from compress.search.adabert import StudentTask
        from compress.teachers.finetune import open_teacher
        from compress.teachers.probes import load_probe_logits

        model, encoder = open_teacher(self.workspace.root / "teacher", self.recipe.data.max_length)
        texts = self._student_texts(encoder)
        texts.targets["probes"] = probes = load_probe_logits(self.workspace.root / "teacher_outputs")
        texts.labels = torch.where(texts.labels < 0, probes[:, -1].argmax(dim=1), texts.labels)  # the teacher's verdict
        return StudentTask(
            texts,
            len(self.corpus.splits["train"]),
            encode_split(self.corpus.splits["dev"], encoder),
            self.corpus.labels,
            self.corpus.pair,
            model.config.pad_token_id or 0,
            model.get_input_embeddings().weight.detach().clone(),
            self.recipe.compress,
            self.recipe.seed,
        )

    def _student_texts(self, encoder: TextEncoder) -> EncodedSplit:
        """The training texts, then the spans sampled from them with the label −1."""
        from compress.augment.spans import sample_spans
        from compress.batches import encode_split, join_splits

        train = self.corpus.splits["train"]
        spans = sample_spans(train, self.recipe.compress.spans, self.recipe.seed)
        return join_splits(encode_split(train, encoder), encode_split(spans, encoder))


def _directory_state(model: str) -> list[tuple[str, int, int]] | None:
    """Names, sizes and times of a local teacher's files: a retrained checkpoint is another input."""
    directory = Path(model)
    if model == "embedded" or not directory.is_dir():
        return None
    return [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(directory.iterdir()) if p.is_file()]
