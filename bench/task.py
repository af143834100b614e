"""A task as it is measured: its data, and the classifiers that there are for it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.baseline import Baseline, BaselineOptions
from bench.engines.base import Classifier
from bench.rivals import Rivals
from compress.data.corpus import Corpus
from compress.data.files import sha256_file
from compress.runtime.errors import UserError
from export.bundle import MANIFEST, TOKENIZER, Bundle
from export.manifest import Manifest


@dataclass(frozen=True)
class Task:
    """Where the task's models are, and which data they are for. Files are read when they are first needed.

    :param teacher: directory of the teacher, `artifacts/NAME/teacher`.
    :param bundle: the bundle, `artifacts/NAME/bundle`.
    :param corpus: the data; its labels are in the order of the logits.
    :param max_length: teacher and BERT baseline cut a text after so many tokens.
    :param device: "cpu" or "cuda".
    :param known_rivals: how rivals are made; None if none is wanted.
    :param beside: further bundles, to be measured beside this one.
    """

    teacher: Path
    bundle: Path
    corpus: Corpus
    max_length: int
    device: str
    baseline_options: BaselineOptions
    known_rivals: Rivals | None = None
    beside: tuple[Path, ...] = ()

    def bert(self) -> Classifier:
        """The uncompressed BERT.

        :raises UserError: as `Baseline`.
        """
        return Classifier(
            family="bert",
            title=self.baseline.title,
            tokenizer=self.baseline.tokenizer,
            pad_token_id=self.baseline.pad_token_id,
            max_length=min(self.max_length, self.baseline.max_length),
            scored=self.baseline.scored,
            note=self.baseline.note,
            nanotoken=self._nanotoken(self.baseline.tokenizer),
        )

    def fine_tuned_teacher(self) -> Classifier:
        """The teacher.

        :raises UserError: there is none, or it has other labels than the data.
        """
        config = self._teacher_config
        if config is None:
            raise UserError(
                f"{self.teacher}: no teacher there; make one with `pocketbert compress`, "
                "or leave it out with --skip 'teacher-*'"
            )
        own = list(config.get("id2label", {"0": "", "1": ""}).values())
        wanted = self.corpus.labels
        if len(own) != len(wanted) or (set(own) == set(wanted) and own != wanted):
            raise UserError(
                f"{self.teacher}: its labels are {own}, the data's {wanted}; train it on this recipe's data"
            )
        known = "num_hidden_layers" in config and "hidden_size" in config
        return Classifier(
            family="teacher",
            title=f"Teacher {config['num_hidden_layers']}×{config['hidden_size']}" if known else "Teacher",
            tokenizer=self._teacher_tokenizer,
            pad_token_id=self._pad_token_id,
            max_length=self.max_length,
            scored=True,
            nanotoken=self._nanotoken(self._teacher_tokenizer),
        )

    def student(self, precision: str, beside: Path | None = None) -> Classifier:
        """The bundle's student, or that of another bundle.

        :param precision: one of the bundle's; it decides what is said about the accuracy gate.
        :param beside: one of `self.beside`.
        :raises UserError: there is no bundle, or it has other labels than the data.
        """
        place = beside or self.bundle
        manifest = Bundle(place).manifest
        if manifest.labels != self.corpus.labels:
            raise UserError(
                f"{place}: its labels are {manifest.labels}, the data's {self.corpus.labels}: another task's bundle"
            )
        failed = manifest.models[precision].passed is False
        return Classifier(
            family="student",
            title="Student" if beside is None else f"Student of {run_of(place)}",
            tokenizer=place / TOKENIZER,
            pad_token_id=manifest.pad_token_id,
            max_length=manifest.max_length,
            scored=True,
            note="lost more accuracy than the recipe's budget" if failed else "",
        )

    def rival(self, title: str, note: str = "") -> Classifier:
        """A classifier that a user could take in the place of the student; lengths are counted in the teacher's tokens."""
        return Classifier(
            family="rival",
            title=title,
            tokenizer=self._teacher_tokenizer,
            pad_token_id=self._pad_token_id,
            max_length=self.max_length,
            scored=True,
            note=note,
            nanotoken=self._nanotoken(self._teacher_tokenizer),
        )

    @property
    def rivals(self) -> Rivals:
        """The files of the rivals."""
        assert self.known_rivals is not None, "the task has none"
        return self.known_rivals

    @property
    def teacher_layers(self) -> int:
        """Number of the teacher's layers; 0 if it is not known."""
        return int((self._teacher_config or {}).get("num_hidden_layers", 0))

    @cached_property
    def manifest(self) -> Manifest:
        """What the bundle holds.

        :raises UserError: there is no bundle, or a broken one.
        """
        return Bundle(self.bundle).manifest

    @cached_property
    def baseline(self) -> Baseline:
        """Files of the uncompressed BERT, with the teacher's vocabulary.

        :raises UserError: as `Baseline`.
        """
        return Baseline(self.baseline_options, self._teacher_tokenizer, self.corpus.labels)

    @cached_property
    def _teacher_config(self) -> dict[str, Any] | None:
        """config.json of the teacher; None if there is no teacher."""
        path = self.teacher / "config.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    @property
    def _teacher_tokenizer(self) -> Path:
        """The teacher's tokenizer. Without a teacher: the bundle's, which is a copy of it."""
        return (self.bundle if self._teacher_config is None else self.teacher) / TOKENIZER

    @property
    def _pad_token_id(self) -> int:
        if self._teacher_config is None:
            return self.manifest.pad_token_id
        return int(self._teacher_config.get("pad_token_id") or 0)

    def _nanotoken(self, tokenizer: Path) -> str | None:
        """The version of nanotoken that the bundle's manifest allows, if this is the bundle's tokenizer.

        The student is served with it, so nothing that is compared with the student reads its tokens in a slower way.
        """
        if not (self.bundle / MANIFEST).is_file():
            return None
        fast, own = self.manifest.fast_tokenizer, self.manifest.files[TOKENIZER].sha256
        return fast.version if fast and sha256_file(tokenizer) == own else None


def run_of(bundle: Path) -> str:
    """How a bundle is called beside others: NAME for artifacts/NAME/bundle, else its own folder."""
    place = bundle.absolute()
    return place.parent.name if place.name == "bundle" else place.name
