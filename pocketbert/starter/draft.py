"""The recipe that `pocketbert init` writes: what was found in the table, as settings with comments."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from compress.data.corpus import Corpus, load_corpus
from compress.data.hub import is_local
from compress.data.summary import TableSummary
from compress.html import html_table
from compress.recipe import Recipe, load_recipe
from compress.recipe.sections import MANY_CLASSES, TEACHER_STEPS, DataOptions, TeacherOptions
from compress.runtime.errors import UserError
from pocketbert.starter.columns import Roles, choose_columns
from pocketbert.starter.language import Language, language_of
from pocketbert.starter.layout import read_layout

MULTILINGUAL = "google-bert/bert-base-multilingual-cased"
# BERTs of one language on the hub, which the recipe mentions beside the multilingual one.
MONOLINGUAL = {
    "Chinese": "google-bert/bert-base-chinese",
    "Dutch": "GroNLP/bert-base-dutch-cased",
    "German": "google-bert/bert-base-german-cased",
    "Italian": "dbmdz/bert-base-italian-cased",
    "Portuguese": "neuralmind/bert-base-portuguese-cased",
    "Spanish": "dccuchile/bert-base-spanish-wwm-cased",
    "Swedish": "KB/bert-base-swedish-cased",
    "Turkish": "dbmdz/bert-base-turkish-cased",
}
# Characters of a token, rounded down so that few texts are cut: of English words, of others in letters, of ideographs.
CHARACTERS_PER_TOKEN = {"English": 3.5, "Latin": 2.5, "Other": 1.5, "Han": 1.0}
SPECIAL_TOKENS = 3
LENGTHS = (32, 64, 96, 128, 192, 256, 384, 512)  # tokens
BANK_TEXTS, OWN_TEXTS = 200_000, 125_000  # of a bank; sampled or joined, and as many with replaced words
BANK_PAIRS, OWN_PAIRS = 50_000, 100_000  # for a task on pairs, which takes longer
LONG = 60  # tokens of the mean text, or pair, from which fewer are made of the task's own, so that their answers take no longer
MANY_CLASSES_STEPS, MOST_STEPS = 1_500, 2_000  # of the teacher
COMMENT_COLUMN = 36


@dataclass(frozen=True)
class Draft:
    """A recipe for a table, not written to disk yet, and what was seen in the table."""

    path: Path  # where it is to be written
    text: str  # TOML
    roles: Roles
    language: Language
    summary: TableSummary
    doubts: list[str]  # what was taken for granted, a line each

    def lines(self) -> Iterator[str]:
        """What is in the table."""
        second = "" if self.roles.text_b is None else f" and {self.roles.text_b!r}"
        yield f"texts: column {self.roles.text!r}{second}; labels: column {self.roles.label!r}"
        yield from self.summary.lines()
        yield f"language: {self.language}"

    @property
    def warnings(self) -> list[str]:
        """What looks like a mistake in the table, a line each."""
        return [*self.doubts, *self.summary.warnings]

    def write(self, *, force: bool = False) -> Recipe:
        """Write the recipe, and read it again to check it.

        :param force: replace a file that is there.
        :raises UserError: there is such a file, or it cannot be written.
        """
        if self.path.exists() and not force:
            raise UserError(
                f"{self.path}: is there already; choose another name with --out, or replace it with --force"
            )
        try:
            self.path.write_text(self.text, encoding="utf-8")
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot be written ({error.strerror}); choose another place with --out"
            ) from None
        return load_recipe(self.path)

    def __str__(self) -> str:
        return "\n".join([*self.lines(), *(f"warning: {warning}" for warning in self.warnings)])

    def _repr_html_(self) -> str:
        rows = [*([line] for line in self.lines()), *([f"⚠ {warning}"] for warning in self.warnings)]
        return html_table([str(self.path)], rows)


def draft_recipe(
    data: str | Path,
    *,
    out: str | Path | None = None,
    text: str | None = None,
    text_b: str | None = None,
    label: str | None = None,
    dev: str | Path | None = None,
    test: str | Path | None = None,
    teacher: str | None = None,
) -> Draft:
    """Look at a table and draft a recipe for it, as `pocketbert init` does.

    :param data: the training table: .csv, .tsv, .jsonl or .parquet.
    :param out: the file of the recipe, whose name the task gets. None: named after the table, in the working directory.
    :param text: the column of the texts. None: found by its name and its content; likewise `text_b` (the second text of a
        pair) and `label`.
    :param dev: a table to judge by, in the same columns. None: a tenth of the rows; likewise `test`.
    :param teacher: a directory or an id of the Hugging Face hub. None: the embedded one for English, else a multilingual BERT.
    :raises UserError: the teacher's directory is not there, a table cannot be read, its columns are not plain, or its content is no
        classification task.
    """
    if teacher is not None and is_local(teacher) and not Path(teacher).is_dir():
        raise UserError(f"--teacher: {teacher}: no such directory; give a checkpoint directory or a hub id")
    table = Path(data)
    layout = read_layout(table)
    roles = choose_columns(layout.columns, str(table), text, text_b, label)
    name = _task_name(table if out is None else Path(out))
    path = Path(out) if out is not None else Path(f"{name}.toml")
    files = {"train": table} | {key: Path(value) for key, value in (("dev", dev), ("test", test)) if value is not None}
    columns = {"text": roles.text, "text_b": roles.text_b, "label": roles.label}
    settings = {key: value for key, value in (columns | layout.settings).items() if value is not None}
    corpus = load_corpus(DataOptions.model_validate({**files, **settings}))
    assert corpus.summary is not None, "load_corpus summarises"
    train = corpus.splits["train"]
    language = language_of([*train.texts, *(train.texts_b or [])])
    settings["max_length"] = _max_length(corpus.summary, language)
    writer = _Writer(name, path, table, files, settings, roles, corpus, language, teacher)
    return Draft(path, "\n".join(writer.lines()) + "\n", roles, language, corpus.summary, layout.doubts)


@dataclass(frozen=True)
class _Writer:
    """Writes the lines of the recipe."""

    name: str
    path: Path
    table: Path
    files: dict[str, Path]
    settings: dict[str, Any]
    roles: Roles
    corpus: Corpus
    language: Language
    teacher: str | None

    def lines(self) -> Iterator[str]:
        table = shlex.quote(str(self.table))
        yield f"# Written by `pocketbert init {table}`. What is left out has a default: `pocketbert recipe {self.path}` prints all."
        yield f"#   pocketbert compress {self.path}      # teacher and student; run again, it carries on"
        yield f"#   pocketbert export {self.path}        # the bundle that predict and serve take"
        yield f"name = {_toml(self.name)}"
        yield "seed = 0"
        yield from ("", "[data]", *self._data())
        yield from ("", "[teacher]", *self._teacher())
        yield from ("", "[transfer]", *self._transfer(), "", "[student]", *self._student())
        yield ""
        yield "[compress]"
        yield _line("preset", "adabert", "a searched convolutional network; or tinybert, distilbert, bilstm, …")
        if self.language.english and not self.corpus.pair and self._tokens <= LONG:  # else the usual 10,000
            yield _line("steps", 20_000, "of the student's training; with 10_000 it is half as long")
        yield ""
        yield "[export]"
        yield _line("budget", 1.0, "points of dev accuracy that INT8 may cost")
        yield ""
        yield "# [cascade]  # the teacher goes into the bundle too and answers the texts of which the student is unsure"
        yield "# within_points = 0.5  # so that no more of its dev accuracy is missing"

    def _data(self) -> Iterator[str]:
        summary = self.corpus.summary
        assert summary is not None, "load_corpus summarises"
        sizes = ", ".join(f"{split} {rows:,}" for split, rows in summary.rows.items())
        for key, file in self.files.items():
            yield _line(key, _relative(file, self.path), f"rows: {sizes}" if key == "train" else "")
        comments = {
            "label": f"{len(summary.classes)} classes, the largest {next(iter(summary.classes))!r}",
            "max_length": f"tokens; 95 % of the texts have up to {summary.characters['p95']:,} characters",
            "encoding": "the file is not UTF-8; are all letters right?",
        }
        for key, value in self.settings.items():
            yield _line(key, value, comments.get(key, ""))
        if "dev" not in self.files:
            yield "# dev = …  test = …                 tables of their own; without them a tenth of the rows for each"
        if self.roles.others:
            yield f"# not used: {', '.join(' '.join(name.split()) for name in self.roles.others)}"

    def _teacher(self) -> Iterator[str]:
        if self.teacher is not None:
            place = Path(self.teacher)
            yield _line("model", _relative(place, self.path) if place.is_dir() else self.teacher)
            return
        if self.language.english:
            yield _line("model", "embedded", "MiniLM for English, from the package index")
            yield '# model = "embedded-base"           # MPNet, of base size: more accurate, eight times as slow to train and to label with'
            yield '# model = "google-bert/bert-base-uncased"   # or any BERT of the Hugging Face hub, or a directory'
        else:
            yield _line(
                "model", MULTILINGUAL, f"from the Hugging Face hub, since the texts are not English ({self.language})"
            )
            if self.language.name in MONOLINGUAL:
                yield f'# model = "{MONOLINGUAL[self.language.name]}"   # a BERT for {self.language.name} alone, often more accurate'
        yield "# fine_tuned = true                 # the model is already trained for these labels"
        steps = _teacher_steps(self.corpus)
        if steps > TEACHER_STEPS:
            yield _line("steps", steps, f"the usual {TEACHER_STEPS} are few for so many classes or rows")
        yield "# soup = 3                          # trainings whose weights are averaged: a more accurate teacher, in three times the time"
        yield ""
        yield "# [tutor]  # a larger BERT whose answers the teacher learns: a more accurate student, and one to two hours more of training"
        example = '"embedded-base"' if self.language.english else '"FacebookAI/xlm-roberta-base"'
        yield f"# model = {example}         # or a directory of a trained one, with fine_tuned = true"

    def _transfer(self) -> Iterator[str]:
        yield "# Further texts that the teacher labels and the student learns from: more are better, and take longer."
        if self.language.english:
            yield _line(
                "bank", "embedded", "English talk, news, tweets and debates; or a file of your own texts without labels"
            )
            if self.corpus.pair:
                yield _line("texts", BANK_PAIRS, "pairs of texts that resemble each other, the ones most like yours")
            else:
                yield _line("texts", BANK_TEXTS, "the ones most like yours")
        else:
            yield '# bank = "texts.txt"                a file of your own texts without labels, a text a line'
            yield "# texts = 80_000"
        if self.corpus.pair:
            yield _line(
                "joined", self._own(OWN_PAIRS), "a first text of yours beside the second one of another of your pairs"
            )
        else:
            if self.language.english:
                yield _line("sampled", self._own(OWN_TEXTS), "new texts in the words and turns of yours")
            else:
                yield _line("joined", self._own(OWN_TEXTS), "joined from spans of your texts")
            replaced = _line("replaced", self._own(OWN_TEXTS), "your texts with some words replaced by near ones")
            yield replaced if self.teacher is None else f"# {replaced}; if the model's tokenizer is WordPiece"
        if self.language.english:
            yield _line("share", 0.8, "of what the student hears; the rest are your labelled texts")

    @property
    def _tokens(self) -> float:
        """About how many tokens a training text, or both texts of a pair, has in the mean."""
        train, most = self.corpus.splits["train"], self.settings["max_length"]
        per_token = CHARACTERS_PER_TOKEN[_kind(self.language)]
        characters = [sum(map(len, texts)) for texts in zip(*filter(None, (train.texts, train.texts_b)), strict=True)]
        return fmean(min(count / per_token + SPECIAL_TOKENS, most) for count in characters)

    def _own(self, count: int) -> int:
        """`count` texts made of the task's own, or fewer where these are long."""
        share = min(1.0, LONG / self._tokens)
        return count if share == 1.0 else round(count * share / 5_000) * 5_000

    def _student(self) -> Iterator[str]:
        yield _line("members", 2, "networks whose logits are averaged, served as one; 1: faster, less accurate")
        yield _line("width", 128, "channels of each; 64 to 256")
        if len(self.corpus.labels) <= MANY_CLASSES:
            yield _line(
                "halvings", 1, "the cells see half of the positions: faster, and as a rule nearer to the teacher"
            )
        else:
            yield _line(
                "halvings", 0, "1: the cells see half of the positions, which loses too much with so many classes"
            )
        if self.language.english:
            yield _line("dropout", 0.0, "with so many texts there is nothing to regularise")
            yield "token_dropout = 0.0"
            yield from (
                "",
                "[search]",
                _line("beta", 0.03, "weight of the cost: with so many texts a larger student pays"),
                _line("max_cost", 0.2, "of the costliest architecture's; changing it needs no new search"),
            )


def _line(key: str, value: Any, comment: str = "") -> str:
    setting = f"{key} = {_toml(value)}"
    return f"{setting:{COMMENT_COLUMN - 1}} # {' '.join(comment.split())}" if comment else setting


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:_}"
    # A JSON string is a TOML string, but for DEL, which TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _relative(file: Path, recipe: Path) -> str:
    """The path of a file as the recipe names it: relative if the file is below the recipe's folder."""
    absolute, folder = Path(os.path.abspath(file)), Path(os.path.abspath(recipe)).parent
    return absolute.relative_to(folder).as_posix() if absolute.is_relative_to(folder) else str(absolute)


def _task_name(table: Path) -> str:
    """A name for the task, of the characters that a recipe's name may have."""
    stem = table.name.split(".")[0]
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_") or "task"


def _teacher_steps(corpus: Corpus) -> int:
    """Steps in which a teacher sees each text once, and each of many classes often enough."""
    passes = len(corpus.splits["train"]) // TeacherOptions().batch_size
    return min(max(passes, MANY_CLASSES_STEPS if len(corpus.labels) > MANY_CLASSES else TEACHER_STEPS), MOST_STEPS)


def _max_length(summary: TableSummary, language: Language) -> int:
    """A length in tokens that cuts few texts. Most Latin texts of a language that is not plain are short English ones."""
    needed = summary.characters["p95"] / CHARACTERS_PER_TOKEN[_kind(language)] + SPECIAL_TOKENS
    return _at_least(LENGTHS, needed)


def _kind(language: Language) -> str:
    """A key of `CHARACTERS_PER_TOKEN`."""
    script = next(iter(language.scripts), "Latin")
    return "English" if language.english else script if script in ("Latin", "Han") else "Other"


def _at_least(sizes: Sequence[int], needed: float) -> int:
    return next((size for size in sizes if size >= needed), sizes[-1])
